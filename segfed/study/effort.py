"""What each training label cost its reader, from the ledger and the stored proposals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segfed.evaluation import Effort, measure_effort
from segfed.sites import LabelledCase, Site
from segfed.study.preflight import StudyData
from segfed.study.records import LabelRow
from segfed.volumes import Volume, read_label


def label_rows(data: StudyData) -> Iterator[LabelRow]:
    """One row for each training label of each arm.

    The volumes compare the submitted label with the proposal that its reader saw, over all
    label values together; they are ``None`` for a label that was drawn without one. Seconds count
    at real sites only: elsewhere the readers are simulated, and a clock measures the simulation.
    """
    for item in data.sites:
        for labelled_cases in item.train.values():
            for labelled in labelled_cases:
                yield _row(item.site, labelled)


def _row(site: Site, labelled: LabelledCase) -> LabelRow:
    """A label's record, with the changes measured on the files themselves."""
    record = labelled.record
    efforts = None
    if record.proposal_sha256 is not None:
        proposal = read_label(site.ledger().label_path(record.proposal_sha256))
        efforts = _changes(read_label(labelled.label_path), proposal)
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
        added_mm3=None if efforts is None else sum(e.added_mm3 for e in efforts),
        removed_mm3=None if efforts is None else sum(e.removed_mm3 for e in efforts),
        added_path_length=None if efforts is None else sum(e.added_path_length for e in efforts),
    )


def _changes(submitted: Volume, proposal: Volume) -> list[Effort]:
    """The effort for each label value; a voxel that changed its value is removed and added."""
    return [
        measure_effort(
            submitted.data[0] == value,
            proposal.data[0] == value,
            voxel_mm3=submitted.grid.voxel_mm3,
        )
        for value in np.union1d(submitted.data, proposal.data)
        if value != 0
    ]
