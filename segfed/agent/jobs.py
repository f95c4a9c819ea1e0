"""The last finished jobs of a study at a site, so that a retry repeats nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segfed.files import sha256_bytes, write_bytes, write_json
from segfed.protocol import RoundReply, RoundRequest


def stored_reply(folder: Path, request: RoundRequest) -> RoundReply | None:
    """The reply to an earlier request for the same job; None if it was not the last of its kind.

    The same job means: same round, same verb, same starting weights. The study and the labels
    are the folder's.
    """
    record = _read(folder / f"{request.verb}.json")
    if record is None or record["request"] != _key(request):
        return None
    weights = (folder / record["weights"]).read_bytes() if record["weights"] else b""
    return RoundReply(weights=weights, n_cases=record["n_cases"], metrics=record["metrics"])


def store_reply(folder: Path, request: RoundRequest, reply: RoundReply) -> None:
    """Keep a finished job; its JSON is written last and makes it count."""
    name = f"{request.verb}_{request.round:03d}.safetensors" if reply.weights else None
    if name:
        write_bytes(folder / name, reply.weights)
    record = {
        "request": _key(request),
        "weights": name,
        "n_cases": reply.n_cases,
        "metrics": reply.metrics,
    }
    write_json(folder / f"{request.verb}.json", record)
    for path in folder.glob(f"{request.verb}_*.safetensors"):
        if path.name != name:
            path.unlink()


def _key(request: RoundRequest) -> dict[str, Any]:
    """What makes two requests the same job."""
    return {"round": request.round, "weights_sha256": sha256_bytes(request.weights)}


def _read(path: Path) -> Any:
    """A file's content; None where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
