"""How a step changes the weights: the optimizer and what it remembers."""

from __future__ import annotations

import torch
from torch import nn

from segfed.engine.weights import State

_WEIGHT_DECAY = 1e-4


def make_optimizer(network: nn.Module, *, learning_rate: float) -> torch.optim.AdamW:
    """AdamW over a network's weights."""
    # Not fused: on a CPU that walks weights and memory side by side without a look at their
    # layouts, and gradients or a resumed memory in another one would be mixed up without a word.
    return torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=_WEIGHT_DECAY)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimizer remembers of the steps so far, for ``load_optimizer``."""
    return {
        f"{index}.{name}": value
        for index, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: State) -> None:
    """Give an optimizer the memory that ``optimizer_tensors`` took from one of the same network."""
    memory: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        memory.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": memory, "param_groups": groups})
