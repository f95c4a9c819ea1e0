"""Which cases the server offers a reader, and what of a case they may see."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from segfed.protocol import Arm
from segfed.sites import TO_REDO, LabelRecord, Reading, Site, current_reading, readings_of


def offered_cases(site: Site, reader: str, *, now: datetime) -> dict[str, bool]:
    """Whether a reader is done with each of their cases, in the order in which to read.

    A reader with assignments gets the assigned cases, in the order of the assignments; a second
    period's once its washout is over. As soon as anybody has assignments, a reader without any
    gets no case. At a site without assignments everybody gets all cases, but for those that
    another reader has opened lately and not submitted.
    """
    ledger = site.ledger()
    ids = {case.case_id: None for case in site.cases}
    readings = [r for r in ledger.readings(reader=reader) if r.assignment.case_id in ids]
    if readings:
        return _progress(readings, now)
    if ledger.has_assignments():
        return {}
    newest = ledger.newest_statuses(reader)
    done = {case_id for case_id, status in newest.items() if status not in TO_REDO}
    lease = timedelta(hours=site.settings.reading.lease_hours)
    taken = ledger.leased(reader, since=now - lease) - done
    return {case_id: case_id in done for case_id in ids if case_id not in taken}


def visible_arm(site: Site, reader: str, case_id: str, *, now: datetime) -> Arm | None:
    """What a reader may see of a case: with ``manual`` no proposal; None if nothing is asked.

    Between the periods of a crossover a reader sees no proposal for the case. At a site whose
    readers have assignments, a case that is not the reader's counts as one to draw by hand: a
    proposal for it would spoil it for later.
    """
    ledger = site.ledger()
    readings = ledger.readings(case_id=case_id, reader=reader)
    current = current_reading(readings, now=now)
    if current is None:
        return "manual" if ledger.has_assignments() else None
    if _is_between_periods(readings, current) or is_recalled(site, reader, case_id, now=now):
        return "manual"
    return current.assignment.arm


def visible_record(site: Site, reader: str, case_id: str, *, now: datetime) -> LabelRecord | None:
    """A reader's newest label of the period that they are in; their other periods stay hidden.

    Between the periods of a crossover it is hidden, too: a look at it would undo the washout.
    """
    ledger = site.ledger()
    readings = ledger.readings(case_id=case_id, reader=reader)
    current = current_reading(readings, now=now)
    if current is not None:
        is_hidden = _is_between_periods(readings, current) or is_recalled(
            site, reader, case_id, now=now
        )
        return None if is_hidden else current.record
    records = ledger.records(case_id, reader=reader)
    return next((r for r in reversed(records) if r.assignment is None), None)


def is_recalled(site: Site, reader: str, case_id: str, *, now: datetime) -> bool:
    """Whether a reader has a case open for a later period than the one that is asked for now.

    That happens when the earlier period's label is rejected or reopened in the middle of the later
    reading: until the reader opens the case anew, what is on their screen belongs to the later one.
    """
    ledger = site.ledger()
    opened = [e.at for e in ledger.events(reader, case_id) if e.kind == "opened"]
    assignments = ledger.assignments(case_id=case_id, reader=reader)
    records = ledger.records(case_id, reader=reader)
    current = current_reading(readings_of(assignments, records), now=now)
    if not opened or current is None:
        return False
    known = [r for r in records if (r.reviewed_at or r.submitted_at) <= opened[-1]]
    before = current_reading(readings_of(assignments, known), now=opened[-1])
    return before is not None and before.assignment.period > current.assignment.period


def _is_between_periods(readings: Sequence[Reading], current: Reading) -> bool:
    """Whether a reader is done with a case for now, and will read it once more."""
    return not current.is_pending and any(reading.is_pending for reading in readings)


def _progress(readings: Sequence[Reading], now: datetime) -> dict[str, bool]:
    """Whether each assigned case is done for now: first those that wait, in their order."""
    waiting = {r.assignment.case_id: False for r in readings if r.is_waiting(now)}
    cases = (r.assignment.case_id for r in readings)
    return waiting | {case_id: True for case_id in cases if case_id not in waiting}
