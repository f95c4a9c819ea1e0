"""Which labels of a site a study trains on and scores against."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from segfed.errors import CaseError
from segfed.protocol import Arm, ArmChoice, Split
from segfed.sites.cases import Case
from segfed.sites.labels import LabelledCase, intact_label
from segfed.sites.records import LabelRecord
from segfed.sites.site import Site


def select_labels(
    site: Site, *, split: Split, arm: ArmChoice, required: bool = True
) -> tuple[LabelledCase, ...]:
    """The cases of a split with the label that counts for an arm; see `Ledger.current`.

    In a parallel study each training case is assigned to one arm. One that nobody was asked to
    label for this arm, nor labelled, is no part of it.

    ``mixed`` takes each case's label of whichever arm there is. Where there are both, as in a
    crossover, it takes manual and assisted ones in turn, by the order of the images' hashes: the
    halves then depend on no date, case name or random number, and every process finds the same.

    Args:
        site: The site, as loaded.
        split: Which cases.
        arm: Whose labels; another arm's label never stands in.
        required: Refuse a case without a label instead of leaving it out.

    Raises:
        CaseError: Naming every case without a label of that arm, or saying that there is none
            in the split.
        LedgerError: If a label's file is missing or was altered.
    """
    cases, ledger = site.split(split), site.ledger()
    current = _mixed(site, cases) if arm == "mixed" else _current(site, cases, arm)
    missing = [
        case_id
        for case_id, record in current.items()
        if record is None and not _belongs_elsewhere(site, case_id, split=split, arm=arm)
    ]
    if required and (missing or not any(current.values())):
        raise CaseError(_explain_missing(site, split=split, arm=arm, missing=missing))
    return tuple(
        LabelledCase(case, intact_label(ledger.label_path(record.label_sha256), record), record)
        for case in cases
        if (record := current[case.case_id]) is not None
    )


def _current(site: Site, cases: Iterable[Case], arm: Arm) -> dict[str, LabelRecord | None]:
    """The label of each case that counts for one arm."""
    ledger = site.ledger()
    return {case.case_id: ledger.current(case.case_id, arm) for case in cases}


def _mixed(site: Site, cases: Iterable[Case]) -> dict[str, LabelRecord | None]:
    """The one label of each case, or of two the manual and the assisted one in turn."""
    cases = tuple(cases)
    manual, assisted = (_current(site, cases, arm) for arm in get_args(Arm))
    both = [case for case in cases if manual[case.case_id] and assisted[case.case_id]]
    in_turn = sorted(both, key=lambda case: (case.image_sha256, case.case_id))
    by_hand = {case.case_id for case in in_turn[::2]}
    return {
        name: manual[name] if name in by_hand else assisted[name] or manual[name] for name in manual
    }


def _belongs_elsewhere(site: Site, case_id: str, *, split: Split, arm: ArmChoice) -> bool:
    """Whether a training case is assigned to the other arm only, and has no label of this one."""
    ledger = site.ledger()
    assigned = {reading.assignment.arm for reading in ledger.readings(case_id=case_id)}
    labelled = {record.arm for record in ledger.records(case_id)}
    is_parallel = split == "train" and arm != "mixed" and bool(assigned)
    return is_parallel and arm not in assigned | labelled


def _explain_missing(site: Site, *, split: Split, arm: ArmChoice, missing: list[str]) -> str:
    """Which cases lack a label, and what became of those that had one."""
    n_cases = len(site.split(split))
    if n_cases and not missing:
        return (
            f"Site {site.name} ({site.folder}): all {n_cases} cases in split {split!r} are "
            f"assigned to another arm, expected at least one with a label of the {arm} arm. "
            "Assign some to it, or leave the arm out of the study."
        )
    if not missing:
        return (
            f"Site {site.name} ({site.folder}) has no case in split {split!r}, expected at least "
            "one. Import cases into that split, or leave the site out."
        )
    records = [record for case_id in missing for record in site.ledger().records(case_id)]
    withheld = sorted({f"{r.case_id} ({r.status})" for r in records if arm in (r.arm, "mixed")})
    wanted = "label" if arm == "mixed" else f"{arm} label"
    note = f" Withheld labels do not count: {', '.join(withheld)}." if withheld else ""
    return (
        f"Site {site.name} ({site.folder}): {len(missing)} of {n_cases} cases in split {split!r} "
        f"have no {wanted} that counts: {', '.join(missing)}.{note} Label them, import their "
        "labels, or leave them out of the split."
    )
