"""Parts of the network that a site keeps its own of: FedBN and personal heads."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from segfed.engine.network import UNet
from segfed.engine.weights import State
from segfed.rules import PersonalLayers


def personal_part(
    state: State, network: UNet, kinds: Collection[PersonalLayers]
) -> dict[str, torch.Tensor]:
    """The weights of some kinds of layers.

    Args:
        state: Weights of the whole network.
        network: The network; its modules say which weights are of which kind.
        kinds: ``norm`` for all normalisation layers, ``head`` for the last convolutions, which
            make the logits.
    """
    prefixes = {
        "norm": tuple(
            f"{name}."
            for name, module in network.named_modules()
            if isinstance(module, nn.InstanceNorm3d | nn.GroupNorm)
        ),
        "head": ("heads.",),
    }
    return {
        name: value
        for name, value in state.items()
        if any(name.startswith(prefixes[kind]) for kind in kinds)
    }
