"""What each training label cost its reader, from the ledger and the stored proposals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from segfed.evaluation import dice, measure_effort, structure_mask, surface_dice
from segfed.sites import LabelledCase, LabelRecord, Site
from segfed.study.anchoring import reference_by_another_hand
from segfed.study.preflight import StudyData
from segfed.study.records import LabelRow
from segfed.volumes import Volume, check_same_grid, read_label


@dataclass(frozen=True)
class Changes:
    """What a reader changed of a proposal, over all label values together."""

    added_mm3: float
    removed_mm3: float
    added_path_length: int
    """Voxels of contour that were drawn anew; see `added_path_length`."""


@dataclass(frozen=True)
class Overlap:
    """How far two labels of a case agree, as means over the structures that either has.

    None where neither has any, or there is no other label.
    """

    dice: float | None = None
    surface_dice: float | None = None


def label_rows(data: StudyData) -> Iterator[LabelRow]:
    """One row for each training label; one that counts in two arms, as in ``mixed``, has one.

    The volumes compare the submitted label with the proposal that its reader saw, over all
    label values together; they are ``None`` for a label that was drawn without one. Seconds count
    at real sites only: elsewhere the readers are simulated, and a clock measures the simulation.
    """
    for item in data.sites:
        once = {
            labelled.record.record_id: labelled
            for labelled_cases in item.train.values()
            for labelled in labelled_cases
        }
        assignments = item.site.ledger().assignments()
        periods: dict[int | None, int] = {a.assignment_id: a.period for a in assignments}
        for labelled in once.values():
            yield _row(item.site, labelled, period=periods.get(labelled.record.assignment))


def _row(site: Site, labelled: LabelledCase, *, period: int | None) -> LabelRow:
    """A label's record, with the changes measured on the files themselves."""
    record = labelled.record
    reference = reference_by_another_hand(site, labelled)
    changes, against_proposal, against_reference = None, Overlap(), Overlap()
    if record.proposal_sha256 is not None or reference is not None:
        label = read_label(site.ledger().label_path(record.label_sha256))
        if record.proposal_sha256 is not None:
            proposal = read_label(site.ledger().label_path(record.proposal_sha256))
            changes = _changes(label, proposal)
            against_proposal = _overlap(label, proposal, site=site, case_id=record.case_id)
        if reference is not None:
            against_reference = _overlap(label, reference[1], site=site, case_id=record.case_id)
    return LabelRow(
        site=site.name,
        case=labelled.case.case_id,
        arm=record.arm,
        reader=record.reader,
        origin=record.origin,
        image_sha256=labelled.case.image_sha256,
        label_sha256=record.label_sha256,
        proposal_sha256=record.proposal_sha256,
        model_sha256=record.model_sha256,
        active_seconds=record.active_seconds if site.settings.data == "real" else None,
        changed_fraction=record.changed_fraction,
        added_mm3=None if changes is None else changes.added_mm3,
        removed_mm3=None if changes is None else changes.removed_mm3,
        added_path_length=None if changes is None else changes.added_path_length,
        period=period,
        proposal_dice=against_proposal.dice,
        proposal_surface_dice=against_proposal.surface_dice,
        reference=reference[0] if reference else None,
        reference_dice=against_reference.dice,
    )


def changes_of(site: Site, record: LabelRecord) -> Changes | None:
    """What a label's reader changed of the proposal that they saw; None for one without.

    Measured on the stored files, value by value: a voxel that changed its value is removed from
    one structure and added to another.

    Raises:
        VolumeError: If a file is missing or cannot be read.
    """
    if record.proposal_sha256 is None:
        return None
    ledger = site.ledger()
    return _changes(
        read_label(ledger.label_path(record.label_sha256)),
        read_label(ledger.label_path(record.proposal_sha256)),
    )


def _changes(submitted: Volume, proposal: Volume) -> Changes:
    """What was changed, value by value."""
    efforts = [
        measure_effort(
            submitted.data[0] == value,
            proposal.data[0] == value,
            voxel_mm3=submitted.grid.voxel_mm3,
        )
        for value in np.union1d(submitted.data, proposal.data)
        if value != 0
    ]
    return Changes(
        added_mm3=sum(effort.added_mm3 for effort in efforts),
        removed_mm3=sum(effort.removed_mm3 for effort in efforts),
        added_path_length=sum(effort.added_path_length for effort in efforts),
    )


def _overlap(label: Volume, other: Volume, *, site: Site, case_id: str) -> Overlap:
    """A label beside another one of its case, at the task's tolerances."""
    task = site.task
    check_same_grid(
        other.grid, label.grid, name=f"another label of {case_id}", reference="its label"
    )
    pairs = {
        name: [structure_mask(volume.data[0], values) for volume in (other, label)]
        for name, values in task.structures.items()
    }
    known = {name: masks for name, masks in pairs.items() if masks[0].any() or masks[1].any()}
    if not known:
        return Overlap()
    return Overlap(
        dice=fmean(dice(*masks) for masks in known.values()),
        surface_dice=fmean(
            surface_dice(
                *masks, spacing_mm=label.grid.spacing_mm, tolerance_mm=task.tolerance_mm[name]
            )
            for name, masks in known.items()
        ),
    )
