"""What each training label cost its reader, from the ledger and the stored proposals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segfed.evaluation import measure_effort
from segfed.sites import LabelledCase, Site
from segfed.study.preflight import StudyData
from segfed.study.records import LabelRow
from segfed.volumes import Volume, read_label


def label_rows(data: StudyData) -> Iterator[LabelRow]:
    """One row for each training label of each arm.

    The volumes compare the submitted label with the proposal that its reader saw, over all
    label values together; they are ``None`` for a label that was drawn without one.
    """
    for item in data.sites:
        for labelled_cases in item.train.values():
            for labelled in labelled_cases:
                yield _row(item.site, labelled)


def _row(site: Site, labelled: LabelledCase) -> LabelRow:
    """A label's record, with the changes measured on the files themselves."""
    record = labelled.record
    changes: dict[str, float | int | None] = dict.fromkeys(
        ("added_mm3", "removed_mm3", "added_path_length")
    )
    if record.proposal_sha256 is not None:
        proposal = read_label(site.ledger().label_path(record.proposal_sha256))
        changes |= _changes(read_label(labelled.label_path), proposal)
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
        active_seconds=record.active_seconds,
        changed_fraction=record.changed_fraction,
        **changes,
    )


def _changes(submitted: Volume, proposal: Volume) -> dict[str, float | int]:
    """Sums over the label values: a voxel that changed its value counts as removed and added."""
    efforts = [
        measure_effort(
            submitted.data[0] == value,
            proposal.data[0] == value,
            voxel_mm3=submitted.grid.voxel_mm3,
        )
        for value in np.union1d(submitted.data, proposal.data)
        if value != 0
    ]
    return {
        "added_mm3": sum(effort.added_mm3 for effort in efforts),
        "removed_mm3": sum(effort.removed_mm3 for effort in efforts),
        "added_path_length": sum(effort.added_path_length for effort in efforts),
    }
