"""The site's record of every message that left: one JSON line each, chained by hashes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from segfed.errors import LedgerError
from segfed.files import sha256_bytes, sha256_json
from segfed.settings import Settings

AUDIT_FILE = "audit.jsonl"
_FIRST_HASH = "0" * 64

Clock = Callable[[], datetime]


class AuditEntry(Settings):
    """One outgoing message. An altered, removed or inserted line breaks the chain."""

    time: datetime
    manifest_sha256: str
    round: int
    kind: str
    """``train``, ``validate``, a stage of secure aggregation (``keys``, ``shares``, ``mask``,
    ``unmask``) or ``error <code>``."""

    bytes: int
    sha256: str
    """Hash of the message's content."""

    recipient: str | None = None
    """The study and whose key signed it; None where nobody here approved what was asked."""

    server_head: str | None = None
    """Head of the server's own record as its request stated it; None where it stated none."""

    previous_hash: str
    hash: str
    """Hash of this line's canonical JSON without this field and without those that are None."""


def utc_now() -> datetime:
    """The time now."""
    return datetime.now(UTC)


def append_entry(
    path: Path,
    *,
    time: datetime,
    manifest_sha256: str,
    round_number: int,
    kind: str,
    content: bytes,
    recipient: str | None = None,
    server_head: str | None = None,
) -> str:
    """Record a message before it leaves; returns the chain's new head once the line is on disk.

    A line that a killed process left unfinished is cut off: its message never left.

    Raises:
        LedgerError: If the last line is damaged.
    """
    with path.open("a+b") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.seek(0)
        whole, newline, _ = log.read().rpartition(b"\n")
        log.truncate(len(whole + newline))
        last = whole.rpartition(b"\n")[2]
        unsigned = AuditEntry(
            time=time,
            manifest_sha256=manifest_sha256,
            round=round_number,
            kind=kind,
            bytes=len(content),
            sha256=sha256_bytes(content),
            recipient=recipient,
            server_head=server_head,
            previous_hash=_parse(last, path).hash if last else _FIRST_HASH,
            hash="",
        )
        entry = unsigned.model_copy(update={"hash": _hash(unsigned)})
        log.write(entry.model_dump_json(exclude_none=True).encode() + b"\n")
        log.flush()
        os.fsync(log.fileno())
    return entry.hash


def read_audit(path: Path) -> tuple[AuditEntry, ...]:
    """All messages that ever left, after checking that the log is whole.

    The chain cannot show that lines are missing at the end; keep the last hash elsewhere for that.

    Raises:
        LedgerError: Naming the first line that does not continue the chain.
    """
    if not path.exists():
        return ()
    entries: list[AuditEntry] = []
    previous = _FIRST_HASH
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        entry = _parse(line, path)
        if entry.previous_hash != previous or entry.hash != _hash(entry):
            raise LedgerError(
                f"{path}: line {number} (hash {entry.hash[:12]}) does not continue the chain of "
                "the lines before it, so a line was altered, removed or inserted. Compare it with "
                "a backup."
            )
        entries.append(entry)
        previous = entry.hash
    return tuple(entries)


def _hash(entry: AuditEntry) -> str:
    """Hash of all fields but the hash itself; an older line has fewer of them."""
    return sha256_json(entry.model_dump(mode="json", exclude={"hash"}, exclude_none=True))


def _parse(line: bytes, path: Path) -> AuditEntry:
    """One line of the log."""
    try:
        return AuditEntry.model_validate_json(line)
    except ValidationError as error:
        raise LedgerError(
            f"{path} holds a line that is no record of a message ({error.error_count()} problems); "
            "expected what the agent writes. Compare it with a backup."
        ) from error
