"""What is recorded of a label, and the hash that protects it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

from segfed.errors import LedgerError
from segfed.files import sha256_json
from segfed.protocol import Arm

Origin = Literal["manual", "ai_corrected", "ai_accepted"]
Status = Literal["submitted", "approved", "flagged", "rejected"]

COUNTING: tuple[Status, ...] = ("submitted", "approved")
"""Statuses of labels that may be trained on and scored against."""

APPROVED: tuple[Status, ...] = ("approved",)
"""Statuses of labels that a site's own training learns from."""

GENESIS = "0" * 64
"""Stands for the hash before the first record's."""


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


@dataclass(frozen=True, kw_only=True)
class LabelRecord(NewLabel):
    """One line of the ledger. ``hash`` covers every other field, ``previous_hash`` included."""

    record_id: int
    supersedes: int | None
    """The earlier record of the same case, arm and reader that this one replaces."""

    previous_hash: str
    hash: str


@dataclass(frozen=True)
class Assignment:
    """Which kind of label a reader was asked to make of a case."""

    assignment_id: int
    reader: str
    case_id: str
    arm: Arm
    assigned_at: datetime


def row_of(new: NewLabel) -> dict[str, Any]:
    """A caller's part of a record as SQLite gives it back, so that its hash can be recomputed."""
    row = asdict(new)
    for name in ("opened_at", "submitted_at"):
        row[name] = row[name] and utc_text(row[name], name)
    for name in ("active_seconds", "changed_fraction"):
        row[name] = row[name] if row[name] is None else float(row[name])
    return row


def record_of(row: dict[str, Any]) -> LabelRecord:
    """The record that a row of the ledger holds."""
    times = {name: row[name] and datetime.fromisoformat(row[name]) for name in _TIMES}
    return LabelRecord(**(row | times))


def hash_of(row: dict[str, Any]) -> str:
    """Hash of a record's every field but the hash itself."""
    try:
        return sha256_json({name: value for name, value in row.items() if name != "hash"})
    except ValueError as error:
        raise LedgerError(
            f"Case {row['case_id']}: a number of its label record is not finite "
            f"(active_seconds {row['active_seconds']}, changed_fraction "
            f"{row['changed_fraction']}); expected finite numbers or none at all. Leave out "
            "what was not measured."
        ) from error


def utc_text(time: datetime, name: str) -> str:
    """A time as ISO 8601 in UTC."""
    if time.tzinfo is None:
        raise LedgerError(
            f"{name} {time.isoformat()} has no time zone; expected one, so that times of two "
            "machines can be compared. Use datetime.now(UTC)."
        )
    return time.astimezone(UTC).isoformat()


_TIMES = tuple(field.name for field in fields(LabelRecord) if field.name.endswith("_at"))
