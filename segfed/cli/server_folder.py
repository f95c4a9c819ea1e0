"""The folder of a server's temporary files, which a server that was killed leaves behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = ".server-"


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[tuple[Path, int]]:
    """A new folder that is removed at the end, and those of killed servers at once.

    A folder is in use as long as somebody holds the lock on it: this process, or the server that
    inherits the descriptor. So several servers of one site can run side by side.

    Args:
        parent: Where to make it.

    Yields:
        The folder and the descriptor that keeps its lock.
    """
    with contextlib.ExitStack() as stack:
        with (parent / "server.lock").open("wb") as starting:
            # Held while there may be a folder that its maker has not locked yet.
            fcntl.flock(starting, fcntl.LOCK_EX)
            for left in parent.glob(f"{_PREFIX}*"):
                _remove_unused(left)
            # A worker of a server that was killed may write there for a moment yet.
            made = tempfile.TemporaryDirectory(
                prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True
            )
            folder = Path(stack.enter_context(made))
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder, descriptor


def _remove_unused(folder: Path) -> None:
    """Remove a folder, unless a server holds its lock or is about to remove it itself."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # a server of this site runs
    finally:
        os.close(descriptor)
