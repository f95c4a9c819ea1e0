"""How far assignments are, and to which one a label belongs."""

from __future__ import annotations

from datetime import datetime, timedelta

from segfed.sites import Assignment, LabelRecord, current_reading
from segfed.sites.readings import readings_of
from tests.sites_samples import NOON, new_label

DAY = timedelta(days=1)


def assignment(number: int, *, period: int = 1, washout_days: float = 0.0, case_id="case0"):
    return Assignment(
        reader="ann",
        case_id=case_id,
        arm="manual",
        period=period,
        washout_days=washout_days,
        assignment_id=number,
        assigned_at=NOON,
    )


def label(number: int, at: datetime, *, status: str = "submitted") -> LabelRecord:
    new = new_label("label", assignment=number, submitted_at=at, status=status)
    return LabelRecord(**vars(new), record_id=1, supersedes=None, previous_hash="", hash="")


def test_a_later_assignment_of_the_same_period_replaces_the_earlier_one():
    readings = readings_of([assignment(1), assignment(2, period=2), assignment(3)], [])

    assert [reading.assignment.assignment_id for reading in readings] == [2, 3]


def test_a_second_period_waits_for_the_first_and_its_washout():
    both = [assignment(1), assignment(2, period=2, washout_days=14)]

    _, before = readings_of(both, [])
    _, rejected = readings_of(both, [label(1, NOON), label(1, NOON, status="rejected")])
    _, after = readings_of(both, [label(1, NOON), label(1, NOON + DAY)])

    assert (before.available_at, before.is_waiting(NOON + 99 * DAY)) == (None, False)
    assert rejected.available_at is None, "the first period's label is made again"
    assert after.available_at == NOON + 15 * DAY, "the reader saw the case again"
    assert after.is_waiting(NOON + 15 * DAY)
    assert not after.is_waiting(NOON + 14 * DAY)


def test_a_label_belongs_to_the_earliest_period_that_waits_or_else_to_the_last_one_read():
    both = [assignment(1), assignment(2, period=2, washout_days=14)]

    def current(records, at):
        return current_reading(readings_of(both, records), now=at).assignment.assignment_id

    first, second = label(1, NOON), label(2, NOON + 20 * DAY)
    assert current([], NOON) == 1
    assert current([first], NOON + DAY) == 1, "during the washout"
    assert current([first], NOON + 14 * DAY) == 2
    assert current([first, second], NOON + 30 * DAY) == 2
    reopened = label(1, NOON, status="reopened")
    assert current([first, second, reopened], NOON + 30 * DAY) == 1
    assert current_reading((), now=NOON) is None
