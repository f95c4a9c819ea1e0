"""A site's update in fewer bytes, and what rounding owes to the next one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from safetensors.numpy import load, save

from segfed.privacy import Method, compress, decompress
from segfed.protocol import RoundReply


def compressed(
    reply: RoundReply, base: bytes, *, method: Method, residue: bytes | None
) -> tuple[RoundReply, bytes]:
    """The reply as it travels, and the residue that the site's next update is to carry.

    Args:
        reply: A training's, with whole weights.
        base: The global model that it started from, as safetensors.
        method: What the update's values become.
        residue: What rounding took from the site's update before this one; None if it is the
            first.

    Raises:
        WeightsError: If the update holds what the method cannot.
    """
    before, owed = load(base), load(residue) if residue else {}
    update = {
        name: np.asarray(trained - before[name] + owed.get(name, np.float32(0)))
        for name, trained in load(reply.weights).items()
    }
    content = compress(update, method=method)
    sent = decompress(content, like=update, method=method)
    left = {name: np.asarray(update[name] - sent[name]) for name in update}
    return replace(reply, weights=save(content)), save(left)
