"""The site's stages of secure aggregation, between the message and its stored update."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import nn

from segfed.agent.jobs import StoredTraining
from segfed.agent.refusal import RefusedError
from segfed.engine import from_bytes, to_bytes
from segfed.errors import PrivacyError
from segfed.privacy import (
    PublicKeys,
    ShareReply,
    SiteSession,
    UnmaskReply,
    clip,
    longest_update,
    noised,
    round_context,
    share_of_noise,
)
from segfed.protocol import AgentErrorCode, Manifest, RoundReply, RoundRequest
from segfed.rules import PrivacyRules
from segfed.settings import Settings

_REPLIES: dict[str, type[Settings]] = {
    "keys": PublicKeys,
    "shares": ShareReply,
    "unmask": UnmaskReply,
}


def clipped_update(trained: bytes, base: bytes, *, clip_norm: float, noise: float = 0.0) -> bytes:
    """The difference of two models, shortened to a norm, as safetensors.

    Args:
        trained: The model after training.
        base: The model before.
        clip_norm: Longest that the difference may be.
        noise: Standard deviation of what is then added to each number.
    """
    before = from_bytes(base)
    difference = {
        name: (tensor.double() - before[name].double()).to(tensor.dtype).numpy()
        for name, tensor in from_bytes(trained).items()
    }
    clipped = clip(difference, norm=clip_norm)
    if noise:
        clipped = noised(clipped, std=noise)
    return to_bytes({name: torch.from_numpy(array) for name, array in clipped.items()})


def bounded(trained: bytes, base: bytes, rules: PrivacyRules) -> bytes:
    """The trained weights as the study bounds them; with secure aggregation the update alone.

    That update is kept, and leaves only under masks; with differential privacy of whole sites it
    has its noise by then.

    Args:
        trained: The model after training, as safetensors.
        base: The model before.
        rules: The study's.
    """
    if rules.clip_norm is None:
        return trained
    noise = share_of_noise(rules)
    update = clipped_update(trained, base, clip_norm=rules.clip_norm, noise=noise)
    return update if rules.secure_aggregation else _moved(base, update)


def _moved(base: bytes, update: bytes) -> bytes:
    """A model moved by an update, as safetensors."""
    changes = from_bytes(update)
    return to_bytes({name: value + changes[name] for name, value in from_bytes(base).items()})


def answer_stage(
    request: RoundRequest,
    *,
    manifest: Manifest,
    site: str,
    state: Path,
    training: StoredTraining | None,
) -> RoundReply:
    """A site's answer in one stage of secure aggregation.

    Args:
        request: Its verb is a stage.
        manifest: The study.
        site: This site's name.
        state: File of the session.
        training: What the round's training stored: the clipped update, its cases, its steps and the
            model it started from.

    Raises:
        PrivacyError: If the study aggregates openly, nothing was trained, or the session refuses.
    """
    rules = manifest.privacy
    if not rules.secure_aggregation or rules.threshold is None or rules.clip_norm is None:
        raise PrivacyError(
            f"A message of secure aggregation came for study {manifest.study!r}, expected none: "
            "its manifest does not ask for it. Ask who runs the server."
        )
    if training is None and request.verb != "unmask":
        raise PrivacyError(
            f"Round {request.round} was to be summed, but the last training here is not of that "
            "round; expected `train` before. The server may ask for it."
        )
    update = training.reply.weights if training else b""
    session = SiteSession(
        path=state,
        site=site,
        context=round_context(
            manifest.sha256, request.round, base_sha256=training.base_sha256 if training else ""
        ),
        threshold=rules.threshold,
        clip_norm=longest_update(rules, n_weights=_n_numbers(update)),
        max_count=manifest.federation.max_count(steps_per_round=manifest.steps_per_round),
    )
    body = request.weights
    if request.verb == "shares":
        return RoundReply(session.share(body), 0, {})
    if request.verb == "unmask" or training is None:
        return RoundReply(session.unmask(body), 0, {})
    if request.verb == "keys":
        return RoundReply(session.begin(body, round_number=request.round, update=update), 0, {})
    count = manifest.federation.count(
        n_cases=training.reply.n_cases, steps=training.reply.metrics["steps"]
    )
    masked = session.mask(body, update=load(update), stored=update, count=count)
    return RoundReply(save(masked), 0, {})


def _n_numbers(update: bytes) -> int:
    """How many numbers an update holds; none where it is empty."""
    return sum(array.size for array in load(update).values()) if update else 0


def check_stage_egress(reply: RoundReply, request: RoundRequest, *, network: nn.Module) -> None:
    """Refuse an answer that is anything but its stage's.

    Raises:
        RefusedError: Naming what must not leave, for the site's log.
    """
    if request.verb == "mask":
        masked = load(reply.weights)
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        sound = {name: array.shape for name, array in masked.items()} == shapes and all(
            array.dtype == np.uint64 for array in masked.values()
        )
        canonical = save(masked)
    else:
        model = _REPLIES[request.verb].model_validate_json(reply.weights)
        sound, canonical = True, model.model_dump_json().encode()
    if not sound or canonical != reply.weights or reply.n_cases or reply.metrics:
        raise RefusedError(
            AgentErrorCode.EGRESS_REFUSED,
            f"The answer to {request.verb!r} held something beside what that stage sends. It was "
            "not sent; report this to whoever maintains the agent.",
        )
