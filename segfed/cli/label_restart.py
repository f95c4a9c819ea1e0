"""Keeps a label server running: one that ends by itself is started again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

from segfed.cli.label_listen import Listen
from segfed.cli.label_server import RunningServer, running_server
from segfed.errors import SegfedError, ServerError
from segfed.sites import read_accounts

logger = logging.getLogger(__name__)

MOST_QUICK_ENDS = 5
"""Ends in a row after which there is no sense in starting again."""

QUICK_SECONDS = 120.0
"""A server that ran longer had started well, and its end counts as the first again."""


def site_starter(
    site_folder: Path, *, reader: str | None, device: str
) -> Callable[[Listen], AbstractContextManager[RunningServer]]:
    """What starts a site's server, as often as it takes, with the accounts that there are then.

    Accounts that were added meanwhile count: readers log in, whoever was named. Once there were
    some, no server starts without, because it would let in everybody on this machine.

    Args:
        site_folder: The site.
        reader: Whose name the label records bear at a site without accounts.
        device: Where the model runs.
    """
    began_with_accounts = had_accounts = bool(read_accounts(site_folder))

    def start(listen: Listen) -> AbstractContextManager[RunningServer]:
        nonlocal had_accounts
        has_accounts = bool(read_accounts(site_folder))
        if had_accounts and not has_accounts:
            raise ServerError(
                f"Found no account in {site_folder} any more; expected one, because a server "
                "without accounts asks nobody to log in. Add one with `segfed label user add`, or "
                "end this command and start it anew."
            )
        had_accounts = has_accounts
        is_late = has_accounts and not began_with_accounts
        return running_server(
            site_folder, listen=listen, reader=None if is_late else reader, device=device
        )

    return start


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
