"""A label on its way from 3D Slicer into the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from label_app.origin import infer_provenance
from label_app.reading_log import ReadingEvent
from label_app.segments import task_label
from label_app.upload import read_upload
from segfed.sites import Case, LabelRecord, Site, checked_label, submit_label
from segfed.volumes import read_label


def submit_upload(
    site: Site,
    case: Case,
    *,
    upload: Path,
    label_info: object,
    reader: str,
    events: Sequence[ReadingEvent],
) -> LabelRecord:
    """Check an uploaded label, infer how it came about, and record both.

    Args:
        site: The site, as it is now.
        case: The case that was labelled.
        upload: The file that came in.
        label_info: Slicer's list of segments; see `task_label`.
        reader: Who submits, as the server knows it.
        events: What the reader did with the case, oldest first.

    Raises:
        SegfedError: If the label cannot be read, lies on another grid or holds a value that the
            task does not know. Nothing is recorded then, and the earlier label stays.
    """
    now, ledger = datetime.now(UTC), site.ledger()
    label = checked_label(
        site, case, task_label(read_upload(upload, site, case), label_info, site.task)
    )
    assignment = ledger.assignment(reader, case.case_id)
    last = last_record(site, case.case_id, reader=reader)
    made = infer_provenance(
        label.data,
        events,
        stored_label=lambda sha256: read_label(ledger.label_path(sha256)).data,
        assigned_at=assignment.assigned_at if assignment else None,
        last_submitted_at=last.submitted_at if last else None,
        now=now,
    )
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
    )


def last_record(site: Site, case_id: str, *, reader: str) -> LabelRecord | None:
    """A reader's newest label of a case."""
    records = [r for r in site.ledger().records(case_id) if r.reader == reader]
    return records[-1] if records else None
