"""A disk of a few megabytes that a test fills up and empties."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_PIECE_BYTES = 4096


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own, in memory."""

    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave not a byte for anybody."""
        with self._ballast.open("ab", buffering=0) as handle:
            try:
                while True:
                    handle.write(bytes(_PIECE_BYTES))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def empty(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[SmallDisk]:
    """A new folder that lies on a disk of its own; skips the test where none can be mounted."""
    folder.mkdir(parents=True)
    mount = ("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder))
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a small disk, which the test fills up")
    try:
        yield SmallDisk(folder)
    finally:
        # At once for whoever looks, and for good when the last file there is closed.
        subprocess.run(("umount", "--lazy", str(folder)), check=True)
