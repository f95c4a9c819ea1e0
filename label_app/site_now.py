"""The site as it is now, without reading its lists anew for every request."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from segfed.sites import Site, load_site
from segfed.sites.cases import CASES_FILE
from segfed.sites.site import SITE_FILE

SETTLED_SECONDS = 2.0
"""A file that changed later than this before it was read may change again unseen: file systems
tell two changes apart only if some milliseconds lie between them."""

_State = tuple[int, int, int] | None
_Known = tuple[dict[Path, _State], Site]


class SiteNow:
    """Loads a site again once one of its files has changed.

    A request needs the site several times, and with thousands of cases each load takes a good
    part of a tenth of a second.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Prepare without reading anything."""
        self._folder = folder
        self._clock = clock
        self._known: _Known | None = None

    def __call__(self) -> Site:
        """The site.

        Raises:
            SegfedError: As `load_site` does.
        """
        known = self._known  # threads may replace it at any moment
        if known is not None and known[0] == {path: _state(path) for path in known[0]}:
            return known[1]
        settled_ns = (self._clock() - SETTLED_SECONDS) * 1e9
        site = load_site(self._folder)
        states = {path: _state(path) for path in _files(site)}
        # What has not changed since before it was read is what was read.
        if all(state is None or state[1] < settled_ns for state in states.values()):
            self._known = states, site
        return site


def _files(site: Site) -> tuple[Path, ...]:
    """What a site is read from; built-in tasks do not change."""
    task = site.settings.task
    own_task = (site.folder / task,) if task.endswith(".toml") else ()
    return (site.folder / SITE_FILE, site.folder / CASES_FILE, *own_task)


def _state(path: Path) -> _State:
    """What differs after any change, even to a file that keeps its time; None without a file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_ctime_ns, stat.st_size
