"""A label on its way from 3D Slicer into the ledger; nothing in it is believed unchecked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from label_app.origin import infer_provenance
from label_app.segments import task_label
from label_app.worklist import is_recalled
from segfed.errors import GeometryError
from segfed.sites import Case, LabelRecord, Site, submit_label
from segfed.volumes import Volume, check_same_grid, read_grid, read_label


def submit_upload(
    site: Site,
    case: Case,
    *,
    upload: Path,
    label_info: object,
    reader: str,
) -> LabelRecord:
    """Check an uploaded label, infer how it came about, and record both.

    A label that was not asked for, by a reader without an assignment to the case at a site whose
    readers have assignments, is kept and flagged. So is one that was made in a later period than
    the one that it would belong to; see `is_recalled`.

    Args:
        site: The site, as it is now.
        case: The case that was labelled.
        upload: The file that came in.
        label_info: Slicer's list of segments; see `task_label`.
        reader: Who submits, as the server knows it.

    Raises:
        SegfedError: If the label cannot be read, lies on another grid or holds a value that the
            task does not know. Nothing is recorded then, and the earlier label stays.
    """
    now, ledger = datetime.now(UTC), site.ledger()
    label = task_label(read_upload(upload, site, case), label_info, site.task)
    assignment = ledger.assignment(reader, case.case_id, at=now)
    made = infer_provenance(
        label.data,
        ledger.events(reader, case.case_id),
        records=ledger.records(case.case_id, reader=reader),
        assignment=assignment.assignment_id if assignment else None,
        stored_label=lambda sha256: read_label(ledger.label_path(sha256)).data,
        idle_seconds=site.settings.reading.idle_minutes * 60,
        now=now,
    )
    is_unasked = assignment is None and ledger.has_assignments()
    is_from_later = is_recalled(site, reader, case.case_id, now=now)
    return submit_label(
        site,
        case_id=case.case_id,
        label=label,
        reader=reader,
        submitted_at=now,
        origin=made.origin,
        proposal_sha256=made.proposal_sha256,
        model_sha256=made.model_sha256,
        changed_fraction=made.changed_fraction,
        opened_at=made.opened_at,
        active_seconds=made.active_seconds,
        status="flagged" if is_unasked or is_from_later else "submitted",
    )


def read_upload(upload: Path, site: Site, case: Case) -> Volume:
    """The label in an uploaded file (1, I, J, K).

    Its header is compared with the case's image before a voxel is read: a small file may claim,
    and unpack to, more than the memory holds.

    Raises:
        VolumeError: If the file cannot be read.
        GeometryError: If it does not lie on the image's grid.
    """
    try:
        check_same_grid(
            read_grid(upload),
            read_grid(case.channels[site.task.display_channel]),
            name=f"submitted label of case {case.case_id}",
            reference="image",
        )
    except GeometryError as error:
        raise GeometryError(
            f"{error} In 3D Slicer: draw on the image that Next Sample opens, with that image as "
            "the segmentation's source volume."
        ) from error
    return read_label(upload)
