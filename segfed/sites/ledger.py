"""The record of labels: append-only, hash-chained, in one SQLite file per site."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segfed.errors import LedgerError
from segfed.files import sha256_file
from segfed.protocol import Arm
from segfed.sites.chain import ChainedTable, append, connect, damage, verify, writing
from segfed.sites.readings import Reading, current_reading, readings_of
from segfed.sites.records import (
    ASSIGNMENTS,
    COUNTING,
    EVENTS,
    RECORDS,
    Assignment,
    LabelRecord,
    NewAssignment,
    NewLabel,
    ReadingEvent,
    Status,
    assignment_of,
    record_of,
    row_of,
    utc_text,
)

_TABLES = (RECORDS, ASSIGNMENTS, EVENTS)


@dataclass(frozen=True)
class ChainEnds:
    """The last hash of each chain: kept elsewhere, it shows later that nothing was cut off."""

    records: str
    assignments: str
    reading_events: str


class Ledger:
    """A site's label records, its assignments, and what its readers opened and were shown.

    Every call opens its own connection, so that threads and processes may share a ledger. What
    a call returned survives the death of the process and of the machine. Reading events are on
    disk before their reader sees anything: a server that is killed between proposal and
    submission must not take an assisted label for a manual one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connection():
            pass

    def append(self, new: NewLabel, *, replacing: int | None = None) -> LabelRecord:
        """Add a record to the chain; returns once it is on disk.

        Args:
            new: The record, without its place in the chain.
            replacing: The record that this one must supersede, where the caller decided by it.

        Raises:
            LedgerError: If a time lacks its zone, a number is not finite, or another record was
                added in place of the one to be replaced.
        """
        with self._connection() as connection, writing(connection):
            (supersedes,) = connection.execute(
                "SELECT max(record_id) FROM records WHERE case_id = ? AND arm = ? AND reader = ?",
                (new.case_id, new.arm, new.reader),
            ).fetchone()
            if replacing is not None and replacing != supersedes:
                raise LedgerError(
                    f"Case {new.case_id}: record {supersedes} came in after record {replacing}, "
                    "which should be replaced; expected no newer label. Look at the new one first."
                )
            row = append(connection, RECORDS, row_of(new) | {"supersedes": supersedes})
        return record_of(row)

    def records(
        self, case_id: str | None = None, *, reader: str | None = None
    ) -> tuple[LabelRecord, ...]:
        """Every record, or those of one case or reader, oldest first."""
        return tuple(map(record_of, self._rows(RECORDS, case_id=case_id, reader=reader)))

    def newest_statuses(self, reader: str) -> dict[str, Status]:
        """What became of a reader's newest label of each case, by case."""
        with self._connection() as connection:
            # SQLite takes the other columns from the row that holds the maximum.
            rows = connection.execute(
                "SELECT case_id, status, max(record_id) FROM records WHERE reader = ? "
                "GROUP BY case_id",
                (reader,),
            )
            return {row["case_id"]: row["status"] for row in rows}

    def current(
        self,
        case_id: str,
        arm: Arm,
        reader: str | None = None,
        *,
        statuses: Collection[Status] = COUNTING,
    ) -> LabelRecord | None:
        """The label of a case and arm that counts, from one reader or from whomever it is.

        A record that was superseded does not count, and neither does a flagged, rejected or
        reopened one. Where several readers have a label that counts, the reader who was assigned
        first gives the reference, however late it came in: a second reading is there to be
        compared. Labels without an assignment come after those, the newest first.
        """
        records = self.records(case_id)
        superseded = {record.supersedes for record in records}
        counting = [
            record
            for record in records
            if record.arm == arm
            and (reader is None or record.reader == reader)
            and record.record_id not in superseded
            and record.status in statuses
        ]
        assignments = reversed(self.assignments(case_id=case_id))
        first_of = {a.reader: a.assignment_id for a in assignments if a.arm == arm}

        def rank(record: LabelRecord) -> tuple[bool, int]:
            is_assigned = record.assignment is not None and record.reader in first_of
            return not is_assigned, first_of[record.reader] if is_assigned else -record.record_id

        return min(counting, key=rank, default=None)

    def assign(
        self, reader: str, case_id: str, arm: Arm, *, at: datetime | None = None
    ) -> Assignment:
        """Ask a reader for one kind of label of a case; a later assignment replaces it."""
        return self.assign_all([NewAssignment(reader, case_id, arm)], at=at)[0]

    def assign_all(
        self,
        new: Iterable[NewAssignment],
        *,
        at: datetime | None = None,
        after: int | None = None,
    ) -> tuple[Assignment, ...]:
        """Record assignments in the order in which each reader shall read; all or none.

        Args:
            new: The assignments.
            at: When they are made; now, unless stated.
            after: How many assignments there were when these were planned.

        Raises:
            LedgerError: If there are others than when these were planned.
        """
        assigned_at = utc_text(at or datetime.now(UTC), "assigned_at")
        with self._connection() as connection, writing(connection):
            (found,) = connection.execute("SELECT count(*) FROM assignments").fetchone()
            if after is not None and found != after:
                raise LedgerError(
                    f"{self.path} holds {found} assignments, expected {after} as when these were "
                    "planned: somebody else assigned cases meanwhile. Look at theirs first."
                )
            rows = [
                append(connection, ASSIGNMENTS, asdict(item) | {"assigned_at": assigned_at})
                for item in new
            ]
        return tuple(map(assignment_of, rows))

    def assignments(
        self, *, case_id: str | None = None, reader: str | None = None
    ) -> tuple[Assignment, ...]:
        """Every assignment that was ever made, replaced ones included, oldest first."""
        return tuple(map(assignment_of, self._rows(ASSIGNMENTS, case_id=case_id, reader=reader)))

    def has_assignments(self) -> bool:
        """Whether anybody was ever assigned a case."""
        with self._connection() as connection:
            return connection.execute("SELECT 1 FROM assignments LIMIT 1").fetchone() is not None

    def readings(
        self, *, case_id: str | None = None, reader: str | None = None
    ) -> tuple[Reading, ...]:
        """The assignments in force, with how far each one is; see `readings_of`."""
        assignments = self.assignments(case_id=case_id, reader=reader)
        if not assignments:
            return ()
        return readings_of(assignments, self.records(case_id, reader=reader))

    def assignment(
        self, reader: str, case_id: str, *, at: datetime | None = None
    ) -> Assignment | None:
        """The assignment to which a reader's label of a case belongs at a time, or now."""
        reading = current_reading(
            self.readings(case_id=case_id, reader=reader), now=at or datetime.now(UTC)
        )
        return reading.assignment if reading else None

    def note(self, reader: str, case_id: str, event: ReadingEvent) -> None:
        """Keep what a reader did or is about to see; returns once it is on disk."""
        row = asdict(event) | {
            "at": utc_text(event.at, "at"),
            "reader": reader,
            "case_id": case_id,
        }
        with self._connection() as connection, writing(connection):
            append(connection, EVENTS, row)

    def events(self, reader: str, case_id: str) -> tuple[ReadingEvent, ...]:
        """What a reader did with a case, oldest first."""
        return tuple(
            ReadingEvent(
                datetime.fromisoformat(row["at"]),
                row["kind"],
                row["proposal_sha256"],
                row["model_sha256"],
            )
            for row in self._rows(EVENTS, case_id=case_id, reader=reader)
        )

    def leased(self, reader: str, *, since: datetime) -> frozenset[str]:
        """Cases that another reader opened since a time and has not submitted since."""
        return frozenset(case for case, by in self._left_open(since) if by != reader)

    def left_open(self, reader: str, *, since: datetime) -> frozenset[str]:
        """Cases that a reader opened since a time and has not submitted since."""
        return frozenset(case for case, by in self._left_open(since) if by == reader)

    def _left_open(self, since: datetime) -> list[tuple[str, str]]:
        """Cases that were opened since a time and not submitted since, and by whom."""
        start = utc_text(since, "since")
        with self._connection() as connection:
            # Two passes: for each opening a search among the records would take minutes. Neither
            # reads what is older: the plus keeps SQLite from going by case through all events, and
            # records are found by the cases that were opened.
            opened = connection.execute(
                "SELECT case_id, reader, max(at) AS at FROM reading_events WHERE kind = 'opened' "
                "AND at >= ? GROUP BY +case_id, reader",
                (start,),
            ).fetchall()
            submitted = connection.execute(
                "SELECT case_id, reader, max(submitted_at) AS at FROM records "
                "WHERE submitted_at >= ? AND case_id IN "
                "(SELECT case_id FROM reading_events WHERE kind = 'opened' AND at >= ?) "
                "GROUP BY case_id, reader",
                (start, start),
            ).fetchall()
        done = {(row["case_id"], row["reader"]): row["at"] for row in submitted}
        return [
            (row["case_id"], row["reader"])
            for row in opened
            if done.get((row["case_id"], row["reader"]), "") < row["at"]
        ]

    def verify(self) -> ChainEnds:
        """Recompute every chain, and the hash of every stored label and proposal.

        Returns:
            The last hash of each chain.

        Raises:
            LedgerError: Naming the first row that was altered, is missing, names an assignment
                that there is not, or a label file that was altered or is missing.
        """
        with self._connection() as connection:
            (sound,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if sound != "ok":
                raise damage(self.path, f"SQLite finds the file damaged ({sound})")
            ends = {table.name: verify(connection, table, path=self.path) for table in _TABLES}
        self._check_assignments()
        self._check_files()
        return ChainEnds(**ends)

    def hashes(self) -> frozenset[str]:
        """The hash of every row of every chain, as it is stored; `verify` recomputes them."""
        return frozenset(row["hash"] for table in _TABLES for row in self._rows(table))

    def label_path(self, sha256: str) -> Path:
        """Where the label or proposal of this hash lies."""
        return self.path.parent / "labels" / f"{sha256}.nii.gz"

    def _check_assignments(self) -> None:
        """Refuse a record whose assignment is not its reader's for that case and arm."""
        known = {a.assignment_id: (a.reader, a.case_id, a.arm) for a in self.assignments()}
        for record in self.records():
            said = (record.reader, record.case_id, record.arm)
            if record.assignment is not None and known.get(record.assignment) != said:
                raise damage(
                    self.path,
                    f"record {record.record_id} names assignment {record.assignment}, which is "
                    f"not one of reader {record.reader} for case {record.case_id} in the "
                    f"{record.arm} arm",
                )

    def _check_files(self) -> None:
        """Refuse a label or proposal that is missing where a row names it, or was altered."""
        owner: dict[str, str] = {}
        for table in (EVENTS, RECORDS):
            for row in reversed(self._rows(table)):
                for sha256 in (row.get("label_sha256"), row["proposal_sha256"]):
                    if sha256 is not None:
                        owner[sha256] = f"{table.noun} {row[table.key]} (case {row['case_id']})"
        for path in self.label_path("any").parent.glob("*.nii.gz"):
            sha256 = path.name.removesuffix(".nii.gz")
            found = sha256_file(path)
            if found != sha256:
                named = owner.get(sha256, "no record")
                raise damage(
                    self.path, f"{named} names {path}, whose content has hash {found[:12]}"
                )
        for sha256, named in owner.items():
            if not self.label_path(sha256).exists():
                raise damage(
                    self.path, f"{named} names {self.label_path(sha256)}, which is missing"
                )

    def _rows(self, table: ChainedTable, **wanted: str | None) -> list[dict[str, Any]]:
        """A table's rows with these values, where they are given, oldest first."""
        given: Mapping[str, str] = {k: v for k, v in wanted.items() if v is not None}
        where = " AND ".join(f"{name} = ?" for name in given) or "true"
        query = f"SELECT * FROM {table.name} WHERE {where} ORDER BY {table.key}"
        with self._connection() as connection:
            return [dict(row) for row in connection.execute(query, tuple(given.values()))]

    def _connection(self) -> AbstractContextManager[sqlite3.Connection]:
        return connect(self.path, _TABLES)
