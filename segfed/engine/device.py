"""Which device computes, and in which precision."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import nn

from segfed.errors import ConfigError, OutOfMemoryError


def select_device(name: str) -> torch.device:
    """The device that a setting means: ``auto`` takes a CUDA device where there is one.

    Raises:
        ConfigError: If the name is unknown, or names a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"device {name!r} is unknown; expected 'auto', 'cpu' or 'cuda'.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device {name!r} was asked for, but PyTorch {torch.__version__} finds no CUDA device "
            "here. Use 'cpu' or 'auto', or install the driver and a CUDA build of PyTorch."
        )
    return device


# Names of malloc.h; their usual values are 65536 blocks and 128 KiB.
_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1

Network = TypeVar("Network", bound=nn.Module)


def place(network: Network, device: torch.device) -> Network:
    """The network itself, moved to a device; channels last, which convolutions like better."""
    if device.type == "cuda":
        # By default cuDNN may choose convolutions that add gradients in an order of their own, and
        # trying which one is fastest chooses anew in each process: the same seed would give other
        # weights.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    network.to(device)
    # PyTorch's stubs lack this keyword.
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def autotuned(device: torch.device, *, wanted: bool) -> AbstractContextManager[object]:
    """A context in which cuDNN tries its convolutions if that is wanted; ``place`` forbids it.

    It holds for the whole process.
    """
    if wanted and device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False)
    return nullcontext()


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context that computes in bfloat16 where the device has matrix units for it.

    A CPU without them would emulate bfloat16 at a fraction of its float32 speed.
    """
    if has_bfloat16_units(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


@contextmanager
def reused_memory(device: torch.device) -> Iterator[None]:
    """A context in which memory that is freed stays with the process, for the next tensor.

    glibc gives tensors of 32 MiB and more back to the system at once, and gets them page by page
    again: on a CPU a fifth of a step of a large network. Afterwards all goes back.
    """
    library = ctypes.CDLL(None) if device.type == "cpu" else None
    if library is None or not hasattr(library, "malloc_trim"):  # not glibc
        yield
        return
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        library.mallopt(_M_MMAP_MAX, 2**16)
        library.mallopt(_M_TRIM_THRESHOLD, 2**17)
        library.malloc_trim(0)


@contextmanager
def enough_memory(device: torch.device, *, otherwise: str) -> Iterator[None]:
    """A context in which a device that runs out of memory is answered in words.

    Args:
        device: What computes.
        otherwise: What to do then, as a sentence.

    Raises:
        OutOfMemoryError: If PyTorch finds too little memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise OutOfMemoryError(
            f"The memory of device {device} is exhausted ({reason}); expected enough for this "
            f"plan's patches. {otherwise}"
        ) from error
