"""What readers did before they submitted: cases that they opened, proposals that they saw."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS reading_events (
    event_id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL, reader TEXT NOT NULL, case_id TEXT NOT NULL, kind TEXT NOT NULL,
    proposal_sha256 TEXT, model_sha256 TEXT
);
CREATE INDEX IF NOT EXISTS reading_events_by_case ON reading_events (reader, case_id);
"""


@dataclass(frozen=True)
class ReadingEvent:
    """One thing that a reader did with a case, or was shown of it."""

    at: datetime
    kind: Literal["opened", "proposed"]
    proposal_sha256: str | None = None
    model_sha256: str | None = None


class ReadingLog:
    """The events of a site's readers, beside the label records in the site's ledger file.

    They are on disk before the reader sees anything: a server that is killed between proposal
    and submission must not take an assisted label for a manual one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connection() as connection:
            connection.executescript(_SCHEMA)

    def note(self, reader: str, case_id: str, event: ReadingEvent) -> None:
        """Keep an event; returns once it is on disk."""
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO reading_events "
                "(at, reader, case_id, kind, proposal_sha256, model_sha256) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    event.at.astimezone(UTC).isoformat(),
                    reader,
                    case_id,
                    event.kind,
                    event.proposal_sha256,
                    event.model_sha256,
                ),
            )

    def events(self, reader: str, case_id: str) -> tuple[ReadingEvent, ...]:
        """What a reader did with a case, oldest first."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT at, kind, proposal_sha256, model_sha256 FROM reading_events "
                "WHERE reader = ? AND case_id = ? ORDER BY event_id",
                (reader, case_id),
            ).fetchall()
        return tuple(ReadingEvent(datetime.fromisoformat(row[0]), *row[1:]) for row in rows)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection whose commits are on disk when they return."""
        with closing(
            sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
