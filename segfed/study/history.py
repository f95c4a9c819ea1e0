"""Every version of a case's labels, with what is known of its making."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from segfed.protocol import Arm
from segfed.sites import LabelRecord, Site
from segfed.study.effort import Changes, changes_of


@dataclass(frozen=True)
class Version:
    """One record of a case, beside what its reader changed."""

    record: LabelRecord
    period: int | None
    """Of the assignment under which it was made; None where there was none."""

    changes: Changes | None
    counts: bool
    """Whether this is the label of its arm that is trained on and scored against."""


def case_history(site: Site, case_id: str) -> tuple[Version, ...]:
    """Every record of a case, reviews included, oldest first.

    Raises:
        CaseError: If the site has no such case.
        VolumeError: If a stored label or proposal is missing or cannot be read.
    """
    site.case(case_id)
    ledger = site.ledger()
    periods = {a.assignment_id: a.period for a in ledger.assignments(case_id=case_id)}
    current = {ledger.current(case_id, arm) for arm in get_args(Arm)}
    return tuple(
        Version(
            record,
            None if record.assignment is None else periods.get(record.assignment),
            changes_of(site, record),
            record in current,
        )
        for record in ledger.records(case_id)
    )


def version_json(version: Version) -> dict[str, object]:
    """A version for a program: the record's own fields and what was derived from it."""
    known = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in vars(version.record).items()
    }
    changes = version.changes
    return known | {
        "period": version.period,
        "elapsed_seconds": version.record.elapsed_seconds,
        "added_mm3": changes and changes.added_mm3,
        "removed_mm3": changes and changes.removed_mm3,
        "added_path_length": changes and changes.added_path_length,
        "counts": version.counts,
    }
