"""The model that a site scored last: a training that starts from it need not send it again.

It lies in the cache, which may be emptied at any time: then the server sends the whole model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from segfed.agent.refusal import RefusedError
from segfed.engine import from_bytes, to_bytes
from segfed.files import sha256_bytes, write_bytes
from segfed.protocol import AgentErrorCode, RoundRequest


def hold_model(site_folder: Path, request: RoundRequest) -> None:
    """Keep the model that a request to score holds, in place of the study's one before."""
    write_bytes(_path(site_folder, request), request.weights)


def whole_request(site_folder: Path, request: RoundRequest) -> RoundRequest:
    """The request with the model that it names by its hash; any other as it is.

    Raises:
        RefusedError: If the model is not here, or not whole.
        WeightsError: If what came with the hash is not safetensors.
    """
    if not request.held_sha256:
        return request
    path = _path(site_folder, request)
    return with_model(request, path.read_bytes() if path.exists() else b"")


def with_model(request: RoundRequest, model: bytes) -> RoundRequest:
    """A request by hash as if the model had come with it, byte for byte: it is the same job.

    Args:
        request: Names a model by its hash; its weights are what is to stand beside the model's.
        model: The model that the site holds, as safetensors.

    Raises:
        RefusedError: If the site holds another model.
        WeightsError: If what came with the hash is not safetensors.
    """
    if sha256_bytes(model) != request.held_sha256:
        raise RefusedError(
            AgentErrorCode.MODEL_NOT_HELD,
            f"Round {request.round} was to start from the model {request.held_sha256[:12]} that "
            "this site scored, which is no longer in its cache; expected the server to send it "
            "whole, as it does after this answer. Nothing is to be done.",
        )
    if request.weights:
        model = to_bytes({**from_bytes(model), **from_bytes(request.weights)})
    return replace(request, weights=model, held_sha256="")


def _path(site_folder: Path, request: RoundRequest) -> Path:
    """One file a study; its manifest's hash was checked."""
    return site_folder / "cache" / "models" / f"{request.manifest_sha256[:16]}.safetensors"
