"""The allow-list: what may leave a site, checked on the very bytes that leave."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
from safetensors.numpy import load, save
from torch import nn

from segfed.agent.refusal import RefusedError
from segfed.engine import Plan, check_weights, from_bytes, to_bytes
from segfed.errors import WeightsError
from segfed.privacy import Method, compressed_form, method_of
from segfed.protocol import AgentErrorCode, RoundReply
from segfed.rules import Compression

_TRAIN_METRICS = frozenset({"loss", "seconds", "steps", "epsilon"})


def check_egress(
    reply: RoundReply, *, plan: Plan, network: nn.Module, compression: Compression = "none"
) -> None:
    """Refuse a reply with anything but weights of the study's network, a count and known metrics.

    Args:
        reply: What is about to leave.
        plan: The study's plan; its structures are the only ones with a Dice.
        network: The study's network; its tensors are the only ones that leave.
        compression: The form in which the study has their changes leave.

    Raises:
        RefusedError: Naming what must not leave, for the site's log.
    """
    allowed = _TRAIN_METRICS | {f"dice_{name}" for name in plan.structures}
    unknown = sorted(reply.metrics.keys() - allowed)
    if unknown:
        raise _refusal(f"metrics {', '.join(unknown)}, expected some of {sorted(allowed)}")
    not_finite = sorted(name for name, value in reply.metrics.items() if not math.isfinite(value))
    if not_finite:
        raise _refusal(f"values that are not finite for {', '.join(not_finite)}")
    if type(reply.n_cases) is not int or reply.n_cases < 0:
        raise _refusal(f"{reply.n_cases!r} as number of cases, expected a whole number")
    method = method_of(compression)
    if not reply.weights:
        return
    if method is None:
        _check_weights(reply.weights, network)
    else:
        _check_compressed(reply.weights, network, method)


def rounded(reply: RoundReply) -> RoundReply:
    """A reply with metrics of four decimals: finer ones serve nobody and could tell more."""
    return replace(reply, metrics={name: round(value, 4) for name, value in reply.metrics.items()})


def payload(reply: RoundReply) -> bytes:
    """A reply as the bytes that the audit log counts and hashes."""
    facts = {"n_cases": reply.n_cases, "metrics": reply.metrics}
    return json.dumps(facts, sort_keys=True, allow_nan=False).encode() + b"\n" + reply.weights


def _check_weights(content: bytes, network: nn.Module) -> None:
    """Only this network's tensors, and no byte beside them (safetensors can carry free text)."""
    try:
        state = from_bytes(content)
        check_weights(state, network)
    except WeightsError as error:
        raise _refusal(f"other weights than the network's: {error}") from error
    if to_bytes(state) != content:
        raise _refusal("bytes beside the network's tensors")


def _check_compressed(content: bytes, network: nn.Module, method: Method) -> None:
    """Only the changes of this network's tensors, in the study's form, and no byte beside them."""
    found = load(content)
    like = {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
    form = compressed_form(like, method=method)
    if {name: (array.shape, array.dtype) for name, array in found.items()} != {
        name: (array.shape, array.dtype) for name, array in form.items()
    }:
        raise _refusal(f"other arrays than an update of the network has as {method}")
    if not all(np.isfinite(array).all() for array in found.values()):
        raise _refusal("NaN or infinity in an update")
    if save(found) != content:
        raise _refusal("bytes beside the update")


def _refusal(found: str) -> RefusedError:
    """The reason, in the site's log."""
    return RefusedError(
        AgentErrorCode.EGRESS_REFUSED,
        f"A reply held {found}. It was not sent; report this to whoever maintains the agent.",
    )
