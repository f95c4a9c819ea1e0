"""What each reader has to do next: their assignments, and how far each one is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from segfed.sites.records import TO_REDO, Assignment, LabelRecord


@dataclass(frozen=True)
class Reading:
    """One assignment, and its label so far."""

    assignment: Assignment
    record: LabelRecord | None
    """The newest label that was submitted under the assignment."""

    available_at: datetime | None
    """From when it may be read; None while an earlier period waits for its label."""

    @property
    def is_pending(self) -> bool:
        """Whether a label is still to be made: none came in, or it was rejected or reopened."""
        return self.record is None or self.record.status in TO_REDO

    def is_waiting(self, now: datetime) -> bool:
        """Whether the reader may make the label now."""
        return self.is_pending and self.available_at is not None and self.available_at <= now


def readings_of(
    assignments: Iterable[Assignment], records: Sequence[LabelRecord]
) -> tuple[Reading, ...]:
    """How far assignments are, in their order.

    An assignment belongs to a reader, case and period; a later one for the same three replaces
    an earlier one. A second period becomes available its washout after the label of the period
    before it, which counts anew from a better label: making it, the reader saw the case again.

    Args:
        assignments: Any readers' assignments, oldest first.
        records: The same readers' labels, oldest first.
    """
    in_force = {(a.reader, a.case_id, a.period): a for a in assignments}
    newest = {record.assignment: record for record in records}

    def available_at(assignment: Assignment) -> datetime | None:
        before = in_force.get((assignment.reader, assignment.case_id, assignment.period - 1))
        if before is None:
            return assignment.assigned_at
        label = newest.get(before.assignment_id)
        if label is None or label.status in TO_REDO:
            return None
        return label.submitted_at + timedelta(days=assignment.washout_days)

    ordered = sorted(in_force.values(), key=lambda a: a.assignment_id)
    return tuple(Reading(a, newest.get(a.assignment_id), available_at(a)) for a in ordered)


def current_reading(readings: Sequence[Reading], *, now: datetime) -> Reading | None:
    """Which of a reader's readings of one case a label would belong to.

    The earliest period that waits for its label and may be read; once none does, the last one
    that was read, so that a better label replaces its earlier version. None without readings.
    """
    by_period = sorted(readings, key=lambda r: r.assignment.period)
    waiting = [reading for reading in by_period if reading.is_waiting(now)]
    done = [reading for reading in by_period if reading.record is not None]
    return next(iter([*waiting, *reversed(done), *by_period]), None)
