"""Files that appear whole or not at all, locks between processes, and hashes of content."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PARTIAL = ".partial-"
"""How the folders begin in which files lie until they are whole."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds.

    The temporary name keeps the suffixes of ``path``, because image writers choose the format
    by them. A block that raises, and a process that is killed, leave ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A directory of its own: some writers (NIfTI .hdr/.img, NRRD .nhdr) write more than one file.
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    _sync_folder(path.parent)


def remove_leftovers(folder: Path, *, older_than_seconds: float) -> None:
    """Remove what killed processes left half-written in a folder.

    Args:
        folder: Where to look, not below; it need not exist.
        older_than_seconds: Longer than any write takes: another process may be writing now.
    """
    for partial in folder.glob(f"{PARTIAL}*"):
        with suppress(FileNotFoundError):  # somebody else removes it, too
            if time.time() - partial.stat().st_mtime > older_than_seconds:
                shutil.rmtree(partial, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, and that only its owner can ever read."""
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)  # before anything secret is in it
        temporary.write_bytes(content)


@contextmanager
def locked(lock: Path, *, otherwise: Exception | None = None) -> Iterator[None]:
    """Hold a lock file, alone among all processes of this machine; ends with the process, too.

    Args:
        lock: The file, made if it is not there; its folder exists.
        otherwise: Raised where another process has it; without it, that one is waited for.
    """
    with lock.open("ab") as handle:
        if otherwise is None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        else:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise otherwise from None
        yield


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file that appears whole or not at all."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON that appears whole or not at all.

    Raises:
        ValueError: If a number is NaN or infinite, which JSON cannot hold; use ``None``.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_rows(path: Path, rows: Iterable[DataclassInstance], kind: type[Any]) -> None:
    """Write records as CSV that appears whole or not at all, floats in full precision.

    Args:
        path: The file.
        rows: The records; what is None becomes an empty cell.
        kind: Their dataclass, whose fields are the columns.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(path, text.getvalue())


def sha256_bytes(content: bytes) -> str:
    """Lower-case hexadecimal SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Lower-case hexadecimal SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """SHA-256 of a JSON value in canonical form: sorted keys, no white space."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256_bytes(canonical.encode("utf-8"))


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: on ext4 and xfs it lives in the folder's own data."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
