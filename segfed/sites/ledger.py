"""The record of labels: append-only, hash-chained, in one SQLite file per site."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segfed.errors import LedgerError
from segfed.files import sha256_file
from segfed.protocol import Arm
from segfed.sites.records import (
    COUNTING,
    GENESIS,
    Assignment,
    LabelRecord,
    NewLabel,
    hash_of,
    record_of,
    row_of,
    utc_text,
)

_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    record_id INTEGER PRIMARY KEY AUTOINCREMENT,
    case_id TEXT NOT NULL, image_sha256 TEXT NOT NULL, label_sha256 TEXT NOT NULL,
    origin TEXT NOT NULL, assignment INTEGER, arm TEXT NOT NULL, reader TEXT NOT NULL,
    proposal_sha256 TEXT, model_sha256 TEXT, opened_at TEXT, submitted_at TEXT NOT NULL,
    active_seconds REAL, changed_fraction REAL, supersedes INTEGER, status TEXT NOT NULL,
    previous_hash TEXT NOT NULL, hash TEXT NOT NULL UNIQUE
);
CREATE INDEX IF NOT EXISTS records_by_case ON records (case_id);
CREATE TABLE IF NOT EXISTS assignments (
    assignment_id INTEGER PRIMARY KEY AUTOINCREMENT,
    reader TEXT NOT NULL, case_id TEXT NOT NULL, arm TEXT NOT NULL, assigned_at TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS records_stay BEFORE DELETE ON records
    BEGIN SELECT RAISE(ABORT, 'label records are never deleted'); END;
CREATE TRIGGER IF NOT EXISTS records_last BEFORE UPDATE ON records
    BEGIN SELECT RAISE(ABORT, 'label records are never changed'); END;
"""


class Ledger:
    """A site's label records and assignments.

    Every call opens its own connection, so that threads and processes may share a ledger. A
    record that `append` returned survives the death of the process and of the machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connection() as connection:
            connection.executescript(_SCHEMA)

    def append(self, new: NewLabel) -> LabelRecord:
        """Add a record to the chain; returns once it is on disk.

        Raises:
            LedgerError: If a time lacks its zone, or a number is not finite.
        """
        with self._connection() as connection:
            # Immediate: the chain's end may not move between reading it and adding to it.
            connection.execute("BEGIN IMMEDIATE")
            last = connection.execute(
                "SELECT record_id, hash FROM records ORDER BY record_id DESC LIMIT 1"
            ).fetchone()
            earlier = connection.execute(
                "SELECT max(record_id) FROM records WHERE case_id = ? AND arm = ? AND reader = ?",
                (new.case_id, new.arm, new.reader),
            ).fetchone()
            row = row_of(new) | {
                "record_id": last[0] + 1 if last else 1,
                "supersedes": earlier[0],
                "previous_hash": last[1] if last else GENESIS,
            }
            row["hash"] = hash_of(row)
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            connection.execute(
                f"INSERT INTO records ({columns}) VALUES ({marks})",
                tuple(row.values()),
            )
            connection.execute("COMMIT")
        return record_of(row)

    def records(self, case_id: str | None = None) -> tuple[LabelRecord, ...]:
        """Every record, or those of one case, oldest first."""
        return tuple(record_of(row) for row in self._rows(case_id))

    def current(self, case_id: str, arm: Arm, reader: str | None = None) -> LabelRecord | None:
        """The newest label of a case and arm that counts, from one reader or from anybody.

        A record that was superseded does not count, and neither does a flagged or rejected one.
        """
        records = self.records(case_id)
        superseded = {record.supersedes for record in records}
        for record in reversed(records):
            if (
                record.arm == arm
                and (reader is None or record.reader == reader)
                and record.record_id not in superseded
                and record.status in COUNTING
            ):
                return record
        return None

    def assign(
        self, reader: str, case_id: str, arm: Arm, *, at: datetime | None = None
    ) -> Assignment:
        """Ask a reader for one kind of label of a case; a later assignment replaces it."""
        assigned_at = utc_text(at or datetime.now(UTC), "assigned_at")
        with self._connection() as connection:
            row_id = connection.execute(
                "INSERT INTO assignments (reader, case_id, arm, assigned_at) VALUES (?, ?, ?, ?)",
                (reader, case_id, arm, assigned_at),
            ).lastrowid
        return Assignment(
            int(row_id or 0), reader, case_id, arm, datetime.fromisoformat(assigned_at)
        )

    def assignment(self, reader: str, case_id: str) -> Assignment | None:
        """What a reader was last asked to do with a case."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT assignment_id, reader, case_id, arm, assigned_at FROM assignments "
                "WHERE reader = ? AND case_id = ? ORDER BY assignment_id DESC LIMIT 1",
                (reader, case_id),
            ).fetchone()
        if row is None:
            return None
        number, who, which, arm, assigned_at = row
        return Assignment(number, who, which, arm, datetime.fromisoformat(assigned_at))

    def verify(self) -> None:
        """Recompute the chain and the hash of every label file that it names.

        Raises:
            LedgerError: Naming the first record that was altered, is missing, or whose label
                file was altered or is missing.
        """
        previous_hash, n_records = GENESIS, 0
        for n_records, row in enumerate(self._rows(), start=1):
            if row["record_id"] != n_records:
                raise self._damage(n_records, "is missing")
            if row["previous_hash"] != previous_hash:
                raise self._damage(n_records, "does not follow from the record before it")
            if row["hash"] != hash_of(row):
                raise self._damage(n_records, "was altered after it was written")
            previous_hash = row["hash"]
            for sha256 in filter(None, (row["label_sha256"], row["proposal_sha256"])):
                self._check_file(n_records, row["case_id"], sha256)
        n_ever = self._n_ever_written()
        if n_ever != n_records:
            raise self._damage(n_records + 1, f"is missing: {n_ever} were written in all")

    def label_path(self, sha256: str) -> Path:
        """Where the label or proposal of this hash lies."""
        return self.path.parent / "labels" / f"{sha256}.nii.gz"

    def _check_file(self, record_id: int, case_id: str, sha256: str) -> None:
        path = self.label_path(sha256)
        if not path.exists():
            raise self._damage(record_id, f"(case {case_id}) names {path}, which is missing")
        found = sha256_file(path)
        if found != sha256:
            raise self._damage(
                record_id, f"(case {case_id}) names {path}, whose content has hash {found[:12]}"
            )

    def _damage(self, record_id: int, what: str) -> LedgerError:
        return LedgerError(
            f"{self.path}: record {record_id} {what}; expected an unbroken chain of unchanged "
            "records and label files. Restore the ledger and the labels folder from a backup."
        )

    def _rows(self, case_id: str | None = None) -> list[dict[str, Any]]:
        """Records as plain rows, oldest first."""
        where, values = ("", ()) if case_id is None else ("WHERE case_id = ?", (case_id,))
        with self._connection() as connection:
            connection.row_factory = sqlite3.Row
            query = f"SELECT * FROM records {where} ORDER BY record_id"
            return [dict(row) for row in connection.execute(query, values)]

    def _n_ever_written(self) -> int:
        """Highest number that SQLite gave out; it outlives a deleted last record."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'records'"
            ).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection whose commits are on disk when they return."""
        try:
            with closing(
                sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self.path} cannot be used as a ledger: {error}; expected the SQLite file that "
                "segfed made. Check the path and its permissions, or restore it from a backup."
            ) from error
