"""The labels that a site trains its own model on: those that a reviewer approved."""

from __future__ import annotations

from collections.abc import Collection

from segfed.protocol import Arm, Split
from segfed.sites.cases import Case
from segfed.sites.intact import check_intact
from segfed.sites.labels import LabelledCase, checked_label, intact_label
from segfed.sites.records import APPROVED, LabelRecord, Status
from segfed.sites.site import Site


def approved_labels(
    site: Site,
    *,
    split: Split,
    arms: Collection[Arm],
    statuses: Collection[Status] = APPROVED,
) -> tuple[LabelledCase, ...]:
    """The cases of a split that have an approved label, each with its newest one, checked.

    Unlike in a study, a case without such a label is left out: a site's own training takes what
    there is. A label that its reader has replaced since does not count.

    Args:
        site: The site, as loaded.
        split: Which cases.
        arms: Whose labels; the newest of all these arms is taken.
        statuses: What counts as approved.

    Raises:
        CaseError: If a channel is missing, was altered since its import, or shows another place.
        LedgerError: If a label's file is missing or was altered.
        GeometryError: If a label does not lie on its image's grid.
        LabelError: If a label holds a value that the task does not know.
        VolumeError: If an image or label cannot be read.
    """
    ledger, found = site.ledger(), []
    for case in site.split(split):
        record = _newest(site, case, arms=arms, statuses=statuses)
        if record is None:
            continue
        path = intact_label(ledger.label_path(record.label_sha256), record)
        check_intact(case)
        checked_label(site, case, path)
        found.append(LabelledCase(case, path, record))
    return tuple(found)


def _newest(
    site: Site, case: Case, *, arms: Collection[Arm], statuses: Collection[Status]
) -> LabelRecord | None:
    """The newest of the labels that count for the arms."""
    ledger = site.ledger()
    current = (ledger.current(case.case_id, arm, statuses=statuses) for arm in arms)
    return max(filter(None, current), key=lambda record: record.record_id, default=None)
