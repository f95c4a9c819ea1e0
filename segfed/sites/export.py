"""A site's labels as a data set that can be published: files, provenance, licence."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from segfed.errors import ConfigError
from segfed.files import PARTIAL, write_rows
from segfed.protocol import Arm
from segfed.sites.labels import intact_label
from segfed.sites.records import APPROVED, COUNTING, LabelRecord
from segfed.sites.site import Site

LABELS_FOLDER = "labels"
PROVENANCE_FILE = "provenance.csv"


@dataclass(frozen=True)
class ProvenanceRow:
    """What the table says of one exported label."""

    case: str
    file: str
    label_sha256: str
    """Of the file."""

    image_sha256: str
    """Of the image on which it was drawn; images are not exported."""

    origin: str
    arm: str
    reader: str
    model_sha256: str | None
    active_seconds: float | None
    elapsed_seconds: float | None
    changed_fraction: float | None
    status: str


def export_labels(
    site: Site,
    out: Path,
    *,
    licence: str = "CC-BY-4.0",
    include_submitted: bool = False,
    names: bool = False,
) -> tuple[ProvenanceRow, ...]:
    """Write a site's labels with their provenance into a new folder, whole or not at all.

    Of each case and arm it takes the label that counts (`Ledger.current`), as NIfTI; a structure
    is named by its value in the README. No image is written.

    Args:
        site: The site, as loaded.
        out: A folder that does not exist yet, or is empty.
        licence: SPDX identifier of the licence under which the labels shall be used.
        include_submitted: Also labels that nobody has reviewed.
        names: Keep the readers' names; otherwise they become reader-1, reader-2, ….

    Returns:
        The rows of the provenance table.

    Raises:
        ConfigError: If the folder is not empty, the licence is unknown, or no label is to be had.
        LedgerError: If a label's file is missing or was altered.
    """
    licence = _spdx_licence(licence)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out} is there already; expected a new or empty folder, because a data set is "
            "written whole. Choose another one with --out."
        )
    ledger, statuses = site.ledger(), COUNTING if include_submitted else APPROVED
    records = [
        record
        for case in site.cases
        for arm in get_args(Arm)
        if (record := ledger.current(case.case_id, arm, statuses=statuses)) is not None
    ]
    if not records:
        raise ConfigError(
            f"Site {site.name} has no label with the status {' or '.join(statuses)}; expected at "
            "least one. Approve labels with `segfed label approve`, or add --include-submitted."
        )
    rows = [_row_of(record) for record in records]
    rows = rows if names else _pseudonymised(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=out.parent) as partial:
        folder = Path(partial) / out.name
        (folder / LABELS_FOLDER).mkdir(parents=True)
        for record, row in zip(records, rows, strict=True):
            source = intact_label(ledger.label_path(record.label_sha256), record)
            shutil.copyfile(source, folder / row.file)
        write_rows(folder / PROVENANCE_FILE, rows, ProvenanceRow)
        (folder / "LICENSE").write_text(_licence_text(site, licence), encoding="utf-8")
        (folder / "README.md").write_text(_readme(site, rows, licence), encoding="utf-8")
        folder.rename(out)
    return tuple(rows)


def _spdx_licence(licence: str) -> str:
    """The identifier as SPDX writes it."""
    try:
        return canonicalize_license_expression(licence)
    except InvalidLicenseExpression as error:
        raise ConfigError(
            f"{licence!r} is no licence that SPDX knows ({error}); expected an identifier from "
            "https://spdx.org/licenses such as CC-BY-4.0 or CC0-1.0. Correct --licence."
        ) from error


def _row_of(record: LabelRecord) -> ProvenanceRow:
    return ProvenanceRow(
        case=record.case_id,
        file=f"{LABELS_FOLDER}/{record.case_id}_{record.arm}.nii.gz",
        label_sha256=record.label_sha256,
        image_sha256=record.image_sha256,
        origin=record.origin,
        arm=record.arm,
        reader=record.reader,
        model_sha256=record.model_sha256,
        active_seconds=record.active_seconds,
        elapsed_seconds=record.elapsed_seconds,
        changed_fraction=record.changed_fraction,
        status=record.status,
    )


def _pseudonymised(rows: Iterable[ProvenanceRow]) -> list[ProvenanceRow]:
    """The rows with numbers for readers, in the order of their first label."""
    rows = list(rows)
    readers = list(dict.fromkeys(row.reader for row in rows))
    return [replace(row, reader=f"reader-{readers.index(row.reader) + 1}") for row in rows]


def _licence_text(site: Site, licence: str) -> str:
    return (
        f"SPDX-License-Identifier: {licence}\n\n"
        f"The labels in this folder, by the readers of site {site.name}, may be used under the "
        f"terms of {licence}.\nIts text: https://spdx.org/licenses/{licence}.html\n"
    )


def _readme(site: Site, rows: list[ProvenanceRow], licence: str) -> str:
    """What a stranger needs to use the labels."""
    kinds = {
        "real": "The images are real.",
        "synthetic": "The images are synthetic: neither they nor the labels show any patient, and "
        "the readers' times are simulated.",
        "rendered": "The images were rendered from real masks, and the readers are simulated.",
    }
    values = "\n".join(f"- {value}: {name}" for name, value in site.task.labels.items())
    contact = f"Contact: {site.settings.contact}\n\n" if site.settings.contact else ""
    n_cases = len({row.case for row in rows})
    return (
        f"# Labels of site {site.name}\n\n"
        f"{site.task.title}: {len(rows)} labels of {n_cases} cases. {kinds[site.settings.data]}\n\n"
        f"{contact}`{LABELS_FOLDER}/<case>_<arm>.nii.gz` holds these values, on its image's grid:\n"
        f"\n- 0: background\n{values}\n\n"
        f"`{PROVENANCE_FILE}` says of each label how it came about. `arm` is what its reader was "
        "asked for: to draw by hand (manual) or to correct a model's proposal (assisted); "
        "`origin` is what happened. `active_seconds` leaves out long pauses, `elapsed_seconds` "
        "does not. `changed_fraction` is the share of proposal and label that the reader changed. "
        "Hashes are SHA-256; that of an image finds it among the images, which are not part of "
        f"this data set.\n\nLicence: {licence}, see `LICENSE`.\n"
    )
