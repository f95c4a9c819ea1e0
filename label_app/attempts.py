"""How often somebody may try to log in."""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import TTLCache
from fastapi import HTTPException

MOST_PER_ACCOUNT = 10
MOST_PER_ADDRESS = 30
"""A department may share one address, and each of its readers may mistype."""

WINDOW_SECONDS = 300.0
_MOST_KEYS = 10_000


class Attempts:
    """Failed logins of the last minutes, by account and by address; bounded in number.

    A login counts before its password is looked at, so that many at once gain nothing. One that is
    refused here does not count: it cannot keep an account shut for longer than the window.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = TTLCache(_MOST_KEYS, WINDOW_SECONDS, timer=clock)

    def begin(self, *, name: str, address: str) -> None:
        """Count an attempt.

        Raises:
            HTTPException: 429 if there were too many.
        """
        limits = {("account", name): MOST_PER_ACCOUNT, ("address", address): MOST_PER_ADDRESS}
        if any(self._counts.get(key, 0) >= most for key, most in limits.items()):
            raise HTTPException(
                429,
                "Found too many failed logins with this name or from this address; expected fewer "
                f"than {MOST_PER_ACCOUNT} in a row. Wait {WINDOW_SECONDS / 60:.0f} minutes; if you "
                "have forgotten your password, ask for a new one.",
                headers={"Retry-After": f"{WINDOW_SECONDS:.0f}"},
            )
        for key in limits:
            self._counts[key] = self._counts.get(key, 0) + 1

    def succeeded(self, *, name: str, address: str) -> None:
        """Forget the account's failures, and that the address tried this once."""
        self._counts.pop(("account", name), None)
        tried = self._counts.get(("address", address), 0)
        if tried:
            self._counts["address", address] = tried - 1
