"""Child processes: that they end with who started them, and whether they live."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(by: signal.Signals = signal.SIGTERM) -> Callable[[], int] | None:
    """What a child does first: ask Linux for a signal when its parent dies, however it dies.

    For ``preexec_fn``; None on other systems, which have no such request.
    """
    if sys.platform != "linux":
        return None
    # Looked up here: between fork and exec nothing but the call itself may happen.
    return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, by)


def has_child(pid: int, text: str) -> bool | None:
    """Whether a process has a living child with a text in its command line.

    None where that cannot be told: on other systems than Linux, and once the process has ended.
    """
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for path in threads for child in (path / "children").read_text().split()]
    except OSError:
        return None
    return any(text.encode() in _command_line(child) for child in children)


def _command_line(pid: str) -> bytes:
    """A process's command line; empty once it has ended, also while its parent has not noticed."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
