"""What is recorded of labels, of who shall make them, and of what their readers saw."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

from segfed.errors import LedgerError
from segfed.protocol import Arm
from segfed.sites.chain import ChainedTable

Origin = Literal["manual", "ai_corrected", "ai_accepted"]
Status = Literal["submitted", "approved", "flagged", "rejected", "reopened"]

COUNTING: tuple[Status, ...] = ("submitted", "approved")
"""Statuses of labels that may be trained on and scored against."""

APPROVED: tuple[Status, ...] = ("approved",)
"""Statuses of labels that a site's own training learns from."""

TO_REDO: tuple[Status, ...] = ("rejected", "reopened")
"""Statuses of labels that their reader is asked to make again."""


@dataclass(frozen=True, kw_only=True)
class NewLabel:
    """What a caller says about a label; the ledger adds its place in the chain."""

    case_id: str
    image_sha256: str
    label_sha256: str
    origin: Origin
    """What happened."""

    assignment: int | None = None
    """The assignment under which the reader worked, where there was one."""

    arm: Arm
    """What the assignment said should happen."""

    reader: str
    proposal_sha256: str | None = None
    """The proposal that the reader saw, among the site's label files."""

    model_sha256: str | None = None
    """The model that made the proposal."""

    opened_at: datetime | None = None
    submitted_at: datetime
    active_seconds: float | None = None
    changed_fraction: float | None = None
    """Share of the proposal's and label's union that the reader changed."""

    status: Status = "submitted"
    reviewed_by: str | None = None
    """Who gave the label its status, where that was not the server."""

    reviewed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class LabelRecord(NewLabel):
    """One line of the ledger. ``hash`` covers every other field, ``previous_hash`` included."""

    record_id: int
    supersedes: int | None
    """The earlier record of the same case, arm and reader that this one replaces."""

    previous_hash: str
    hash: str

    @property
    def elapsed_seconds(self) -> float | None:
        """From opening the case to submitting it, pauses included; None if it was not opened."""
        if self.opened_at is None:
            return None
        return (self.submitted_at - self.opened_at).total_seconds()


@dataclass(frozen=True)
class NewAssignment:
    """Which kind of label a reader shall make of a case, and in which period of a crossover."""

    reader: str
    case_id: str
    arm: Arm
    period: int = 1
    washout_days: float = 0.0
    """Days that must lie between the earlier period's label and this reading."""

    design: str = ""
    """How the assignment was drawn: ``crossover, seed 7``; empty for one made by itself."""


@dataclass(frozen=True, kw_only=True)
class Assignment(NewAssignment):
    """An assignment in the ledger."""

    assignment_id: int
    assigned_at: datetime


@dataclass(frozen=True)
class ReadingEvent:
    """One thing that a reader did with a case, or was shown of it."""

    at: datetime
    kind: Literal["opened", "proposed", "clicked"]
    """What a model made is a proposal of the whole label, or its answer to the reader's clicks."""

    proposal_sha256: str | None = None
    model_sha256: str | None = None


RECORDS = ChainedTable(
    name="records",
    key="record_id",
    noun="record",
    columns={
        **dict.fromkeys(("case_id", "image_sha256", "label_sha256", "origin"), "TEXT NOT NULL"),
        "assignment": "INTEGER",
        **dict.fromkeys(("arm", "reader"), "TEXT NOT NULL"),
        **dict.fromkeys(("proposal_sha256", "model_sha256", "opened_at"), "TEXT"),
        "submitted_at": "TEXT NOT NULL",
        **dict.fromkeys(("active_seconds", "changed_fraction"), "REAL"),
        "supersedes": "INTEGER",
        "status": "TEXT NOT NULL",
        **dict.fromkeys(("reviewed_by", "reviewed_at"), "TEXT"),
    },
    later=("reviewed_by", "reviewed_at"),
    indexed=("case_id", "reader"),
)

ASSIGNMENTS = ChainedTable(
    name="assignments",
    key="assignment_id",
    noun="assignment",
    columns={
        **dict.fromkeys(("reader", "case_id", "arm", "assigned_at"), "TEXT NOT NULL"),
        "period": "INTEGER NOT NULL DEFAULT 1",
        "washout_days": "REAL NOT NULL DEFAULT 0.0",
        "design": "TEXT NOT NULL DEFAULT ''",
    },
    indexed=("reader", "case_id"),
)

EVENTS = ChainedTable(
    name="reading_events",
    key="event_id",
    noun="reading event",
    columns={
        **dict.fromkeys(("at", "reader", "case_id", "kind"), "TEXT NOT NULL"),
        **dict.fromkeys(("proposal_sha256", "model_sha256"), "TEXT"),
    },
    indexed=("case_id", "at"),
)


def row_of(new: NewLabel) -> dict[str, Any]:
    """A caller's part of a record, with its times as texts."""
    row = asdict(new)
    for name in ("opened_at", "submitted_at", "reviewed_at"):
        row[name] = row[name] and utc_text(row[name], name)
    return row


def record_of(row: dict[str, Any]) -> LabelRecord:
    """The record that a row of the ledger holds."""
    times = {name: row[name] and datetime.fromisoformat(row[name]) for name in _TIMES}
    return LabelRecord(**(row | times))


def assignment_of(row: dict[str, Any]) -> Assignment:
    """The assignment that a row of the ledger holds."""
    known = {name: value for name, value in row.items() if name not in ("previous_hash", "hash")}
    return Assignment(**(known | {"assigned_at": datetime.fromisoformat(row["assigned_at"])}))


def utc_text(time: datetime, name: str) -> str:
    """A time as ISO 8601 in UTC."""
    if time.tzinfo is None:
        raise LedgerError(
            f"{name} {time.isoformat()} has no time zone; expected one, so that times of two "
            "machines can be compared. Use datetime.now(UTC)."
        )
    return time.astimezone(UTC).isoformat()


_TIMES = tuple(field.name for field in fields(LabelRecord) if field.name.endswith("_at"))
