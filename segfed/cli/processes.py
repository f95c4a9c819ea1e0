"""Child processes that end with the process that started them."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from functools import partial

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], int] | None:
    """What a child does first: ask Linux for SIGTERM when its parent dies, however it dies.

    For ``preexec_fn``; None on other systems, which have no such request.
    """
    if sys.platform != "linux":
        return None
    # Looked up here: between fork and exec nothing but the call itself may happen.
    return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGTERM)
