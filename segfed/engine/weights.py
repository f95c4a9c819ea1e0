"""Network weights as safetensors: read, written, hashed and checked; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from segfed.errors import WeightsError
from segfed.files import sha256_bytes, write_bytes

State = Mapping[str, torch.Tensor]
"""Tensors by parameter name, as ``Module.state_dict`` gives them."""


def to_bytes(state: State) -> bytes:
    """Weights as safetensors; equal weights give equal bytes."""
    # Sorted and contiguous, because neither order nor memory layout is part of the values.
    return save({name: state[name].detach().cpu().contiguous() for name in sorted(state)})


def from_bytes(content: bytes, *, source: str = "the message") -> dict[str, torch.Tensor]:
    """Weights from safetensors.

    Args:
        content: The bytes.
        source: Where they come from, for messages.

    Raises:
        WeightsError: If the bytes are damaged or of another format.
    """
    try:
        return load(content)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(
            f"{source} holds {len(content)} bytes that are not safetensors ({error}); expected "
            "network weights as segfed writes them. Send or copy them again."
        ) from error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights from a safetensors file.

    Raises:
        WeightsError: If the file is missing, damaged or of another format.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise WeightsError(
            f"No weights at {path}, expected a safetensors file. Check the path, or train first."
        ) from None
    return from_bytes(content, source=str(path))


def write_weights(path: Path, state: State) -> str:
    """Write a safetensors file that appears whole or not at all; returns its SHA-256."""
    content = to_bytes(state)
    write_bytes(path, content)
    return sha256_bytes(content)


def check_weights(state: State, network: nn.Module, *, source: str = "the message") -> None:
    """Refuse weights that are not for this network, tensor by tensor.

    Args:
        state: The weights.
        network: The network that they must fit.
        source: Where they come from, for messages.

    Raises:
        WeightsError: If a tensor is missing, unknown, of another shape or type (one that would
            merely broadcast or convert counts too), or holds NaN or infinity. Every problem is
            listed.
    """
    expected = network.state_dict()
    problems = [f"{name} is missing" for name in expected.keys() - state.keys()]
    problems += [f"{name} is unknown" for name in state.keys() - expected.keys()]
    for name in expected.keys() & state.keys():
        found, wanted = state[name], expected[name]
        if found.shape != wanted.shape:
            problems.append(f"{name} has shape {tuple(found.shape)}, not {tuple(wanted.shape)}")
        elif found.dtype != wanted.dtype:
            problems.append(f"{name} has type {found.dtype}, not {wanted.dtype}")
        elif not torch.isfinite(found).all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        shown = "; ".join(sorted(problems)[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise WeightsError(
            f"The weights from {source} do not fit the plan's network of {len(expected)} tensors: "
            f"{shown}{more}. Use weights that were trained with the same plan."
        )


_SHOWN = 5


def copy_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The network's weights as they are now, on the CPU, unchanged by further training."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
