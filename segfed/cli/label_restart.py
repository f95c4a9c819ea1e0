"""Keeps a label server running: one that ends by itself is started again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NoReturn

from segfed.cli.label_listen import Listen
from segfed.cli.label_server import RunningServer
from segfed.errors import SegfedError, ServerError

logger = logging.getLogger(__name__)

MOST_QUICK_ENDS = 5
"""Ends in a row after which there is no sense in starting again."""

QUICK_SECONDS = 120.0
"""A server that ran longer had started well, and its end counts as the first again."""


def serve_for_good(
    start: Callable[[Listen], AbstractContextManager[RunningServer]],
    *,
    listen: Listen,
    on_ready: Callable[[RunningServer], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> NoReturn:
    """Start a server, and start it again whenever it ends by itself.

    It comes back at the same address, and readers stay logged in. A server never repairs anything
    when it starts: what it acknowledged was on disk, and what it did not is left out whole. The
    pause before a start doubles from 1 s with each quick end.

    Args:
        start: Starts a server that listens there, and ends it with the block.
        listen: Where to listen.
        on_ready: Called once, when the server answers for the first time.
        clock: Tells seconds.
        sleep: Waits so many.

    Raises:
        SegfedError, OSError: If the first start fails, which no other start would cure.
        ServerError: If the server ended `MOST_QUICK_ENDS` times in a row soon after its start, or
            before it answered.
    """
    is_first, n_quick = True, 0
    while True:
        started, is_ready = clock(), False
        try:
            with start(listen) as server:
                if is_first:
                    on_ready(server)
                is_first, is_ready, listen = False, True, server.listen
                server.wait()
        except (SegfedError, OSError) as error:  # a damaged site, a full disk: somebody may cure it
            if is_first:
                raise
            is_quick = not is_ready or clock() - started < QUICK_SECONDS
            n_quick = n_quick + 1 if is_quick else 1
            if n_quick >= MOST_QUICK_ENDS:
                raise ServerError(
                    f"The label server ended {n_quick} times in a row within {QUICK_SECONDS:g} s "
                    "of its start, or never answered; expected it to run until it is stopped. The "
                    f"last time: {error}"
                ) from error
            pause_seconds = 2.0 ** (n_quick - 1)
            logger.warning("Starting again in %g s. %s", pause_seconds, error)
            sleep(pause_seconds)
