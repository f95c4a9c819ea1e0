"""What each training label cost its reader, from the ledger and the stored proposals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segfed.evaluation import measure_effort
from segfed.sites import LabelledCase, LabelRecord, Site
from segfed.study.preflight import StudyData
from segfed.study.records import LabelRow
from segfed.volumes import Volume, read_label


@dataclass(frozen=True)
class Changes:
    """What a reader changed of a proposal, over all label values together."""

    added_mm3: float
    removed_mm3: float
    added_path_length: int
    """Voxels of contour that were drawn anew; see `added_path_length`."""


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
        for labelled in once.values():
            yield _row(item.site, labelled)


def _row(site: Site, labelled: LabelledCase) -> LabelRow:
    """A label's record, with the changes measured on the files themselves."""
    record = labelled.record
    changes = changes_of(site, record)
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
    submitted: Volume = read_label(ledger.label_path(record.label_sha256))
    proposal = read_label(ledger.label_path(record.proposal_sha256))
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
