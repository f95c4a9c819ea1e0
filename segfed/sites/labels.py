"""Labels on their way in: checked, stored under their hash, recorded."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from segfed.errors import LedgerError
from segfed.files import PARTIAL, replacing, sha256_file
from segfed.protocol import Arm
from segfed.sites.cases import Case
from segfed.sites.records import Assignment, LabelRecord, NewLabel, Origin, Status
from segfed.sites.site import Site
from segfed.volumes import Volume, check_same_grid, read_grid, read_label, write_label


@dataclass(frozen=True)
class LabelledCase:
    """A case with the label that counts for one arm."""

    case: Case
    label_path: Path
    record: LabelRecord

    @property
    def hashes(self) -> list[str]:
        """Of image and label, as JSON holds them: what a training depends on."""
        return [self.case.image_sha256, self.record.label_sha256]


def store_label(site_folder: Path, label: Volume | Path) -> str:
    """Keep a label or proposal under the hash of its file; returns that hash.

    The label is written anew as compressed NIfTI, so that equal labels have equal hashes and no
    free text of another program's header stays. A label that is there already is kept.

    Raises:
        VolumeError: If a file cannot be read as a label.
    """
    volume = read_label(label) if isinstance(label, Path) else label
    folder = site_folder / "labels"
    folder.mkdir(exist_ok=True)
    # In a folder of its own until the hash is known, so that two writers never meet.
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder) as partial:
        staged = Path(partial) / "label.nii.gz"
        write_label(volume, staged, durable=False)  # `replacing` puts it on disk
        sha256 = sha256_file(staged)
        target = folder / f"{sha256}.nii.gz"
        if not target.exists() or sha256_file(target) != sha256:
            with replacing(target) as replacement:
                staged.rename(replacement)
    return sha256


def submit_label(
    site: Site,
    *,
    case_id: str,
    label: Volume | Path,
    origin: Origin,
    reader: str,
    arm: Arm | None = None,
    proposal_sha256: str | None = None,
    model_sha256: str | None = None,
    opened_at: datetime | None = None,
    submitted_at: datetime | None = None,
    active_seconds: float | None = None,
    changed_fraction: float | None = None,
    status: Status = "submitted",
) -> LabelRecord:
    """Check a label, store it and record it; it supersedes the reader's earlier one of that arm.

    The record's arm is what the reader's assignment to the case says at the time; in a crossover
    the one of the period that the reader is in. A label whose origin or stated arm contradicts it
    is kept and flagged, so that no work is lost and none is silently counted.

    Args:
        site: The site, as loaded.
        case_id: The case that was labelled.
        label: The label in the task's values, or its file, on the image's grid.
        origin: What happened.
        reader: Who did it.
        arm: For a reader without an assignment: the arm to record. By default what the origin
            implies.
        proposal_sha256: The stored proposal that the reader saw.
        model_sha256: The model that made it.
        opened_at: When the reader opened the case.
        submitted_at: When the label came in; now, unless stated.
        active_seconds: Time that the reader worked, long pauses left out.
        changed_fraction: Share of proposal and label that the reader changed.
        status: ``approved`` or ``rejected`` after a review elsewhere; ``flagged`` for one that
            was not asked for.

    Raises:
        CaseError: If the site has no such case.
        GeometryError: If the label does not lie on the image's grid.
        LabelError: If the label holds a value that the task does not know.
        VolumeError: If a file cannot be read as a label.
        LedgerError: If the proposal is not among the site's labels, or the record cannot be kept.
    """
    case = site.case(case_id)
    ledger = site.ledger()
    if proposal_sha256 is not None and not ledger.label_path(proposal_sha256).exists():
        raise LedgerError(
            f"Case {case_id}: the label says that it came from proposal {proposal_sha256[:12]}, "
            f"expected among {ledger.path.parent / 'labels'}, but it is not there. Store the "
            "proposal first."
        )
    submitted_at = submitted_at or datetime.now(UTC)
    assignment = ledger.assignment(reader, case_id, at=submitted_at)
    recorded_arm, contradicts = _arm_of(origin, stated=arm, assignment=assignment)
    return ledger.append(
        NewLabel(
            case_id=case_id,
            image_sha256=case.image_sha256,
            label_sha256=store_label(site.folder, checked_label(site, case, label)),
            origin=origin,
            assignment=assignment.assignment_id if assignment else None,
            arm=recorded_arm,
            reader=reader,
            proposal_sha256=proposal_sha256,
            model_sha256=model_sha256,
            opened_at=opened_at,
            submitted_at=submitted_at,
            active_seconds=active_seconds,
            changed_fraction=changed_fraction,
            status="flagged" if contradicts and status != "rejected" else status,
        )
    )


def checked_label(site: Site, case: Case, label: Volume | Path) -> Volume:
    """A label that lies on its image's grid, to the last bit, and holds only the task's values.

    Raises:
        GeometryError: If the label does not lie on the image's grid.
        LabelError: If the label holds a value that the task does not know.
        VolumeError: If a file cannot be read.
    """
    volume = read_label(label) if isinstance(label, Path) else label
    image_path = case.channels[site.task.display_channel]
    image_grid = read_grid(image_path)
    check_same_grid(
        volume.grid,
        image_grid,
        name=f"label of case {case.case_id}",
        reference=f"image {image_path}",
    )
    site.task.check_label_values(
        # Without the background, which takes long to sort and is always allowed.
        np.unique(volume.data[volume.data != 0]).tolist(),
        case_id=case.case_id,
        path=label if isinstance(label, Path) else Path("the submitted label"),
    )
    return Volume(volume.data, image_grid)


def origin_arm(origin: Origin) -> Arm:
    """The arm to which a label of this origin can belong."""
    return "manual" if origin == "manual" else "assisted"


def _arm_of(
    origin: Origin, *, stated: Arm | None, assignment: Assignment | None
) -> tuple[Arm, bool]:
    """The arm to record, and whether origin or statement contradict it."""
    implied = origin_arm(origin)
    stated = stated or (assignment.arm if assignment else implied)
    arm = assignment.arm if assignment else stated
    return arm, not arm == stated == implied


def intact_label(path: Path, record: LabelRecord) -> Path:
    """A label's path, if its content is what its record says.

    Raises:
        LedgerError: If the file is missing or was altered.
    """
    found = sha256_file(path) if path.exists() else None
    if found != record.label_sha256:
        what = "is missing" if found is None else f"has the hash {found[:12]}"
        raise LedgerError(
            f"Case {record.case_id}: {path} {what}, expected the label of record "
            f"{record.record_id} with the hash {record.label_sha256[:12]}. "
            "Restore it from a backup."
        )
    return path
