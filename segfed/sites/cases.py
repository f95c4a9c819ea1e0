"""The list of a site's cases."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from segfed.errors import CaseError, ConfigError, SegfedError
from segfed.files import locked, write_text
from segfed.protocol import Split
from segfed.sites.tasks import Task

CASES_FILE = "cases.csv"
_COLUMNS = ("case_id", "patient_id", "split", "image_sha256")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True)
class Case:
    """One study of one patient, and where its image lies."""

    case_id: str
    patient_id: str
    split: Split
    image_sha256: str
    """The file's hash; for several channels the hash of their joined hashes."""

    channels: dict[str, Path]
    """File of each channel, in the task's channel order."""


def channel_paths(site_folder: Path, case_id: str, task: Task) -> dict[str, Path]:
    """Where a case's channels lie: the displayed one in ``images``, the others beside it."""
    others = site_folder / "modalities" / case_id
    return {
        channel: site_folder / "images" / f"{case_id}.nii.gz"
        if channel == task.display_channel
        else others / f"{channel}.nii.gz"
        for channel in task.channels
    }


def check_case_id(case_id: str) -> None:
    """Refuse a name that could leave the site's folder or lose part of itself as a file name.

    Raises:
        CaseError: If the name holds anything but letters, digits, ``_`` and ``-``.
    """
    if not _SAFE_NAME.fullmatch(case_id):
        raise CaseError(
            f"Case name {case_id!r} cannot be a file name here: expected 1 to 100 letters, "
            "digits, '_' or '-', beginning with a letter or digit. Rename the case."
        )


@contextmanager
def naming_case(case_id: str) -> Iterator[None]:
    """Put the case's name before the message of any error that lacks it."""
    try:
        yield
    except SegfedError as error:
        if case_id in str(error):
            raise
        raise type(error)(f"Case {case_id}: {error}") from error


def read_cases(site_folder: Path, task: Task) -> tuple[Case, ...]:
    """The cases that a site lists, in the order of their import; none where there is no list.

    Raises:
        ConfigError: If the list is damaged, or has one patient in two splits.
    """
    path = site_folder / CASES_FILE
    if not path.exists():
        return ()
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise ConfigError(
                f"{path} begins with the columns {reader.fieldnames}, expected {list(_COLUMNS)}. "
                "Restore the file; segfed writes it and nobody else needs to."
            )
        cases = tuple(_case_of(row, site_folder, task) for row in reader)
    _check_list(cases, path)
    return cases


def list_case(site_folder: Path, case: Case, *, task: Task) -> None:
    """Add a case to the site's list; from here on it exists. Listing it again changes nothing.

    Raises:
        CaseError: If the name is taken by another image, patient or split, or if the patient
            already has a case in another split.
    """
    with _locked(site_folder):
        cases = read_cases(site_folder, task)
        if case in cases:
            return
        for other in cases:
            if other.case_id == case.case_id:
                raise CaseError(
                    f"Case {case.case_id} is already in {site_folder} as patient "
                    f"{other.patient_id}, split {other.split}, image {other.image_sha256[:12]}; "
                    f"found {case.patient_id}, {case.split}, {case.image_sha256[:12]}. A case is "
                    "never overwritten: give the new one another name."
                )
        _check_list((*cases, case), site_folder / CASES_FILE)
        write_text(site_folder / CASES_FILE, _as_csv((*cases, case)))


def _case_of(row: dict[str, str], site_folder: Path, task: Task) -> Case:
    """One line of the list."""
    case_id = row["case_id"]
    check_case_id(case_id)
    split = next((split for split in get_args(Split) if split == row["split"]), None)
    if split is None:
        raise ConfigError(
            f"{site_folder / CASES_FILE}: case {case_id} is in split {row['split']!r}, expected "
            f"one of {', '.join(get_args(Split))}. Correct that line."
        )
    paths = channel_paths(site_folder, case_id, task)
    return Case(case_id, row["patient_id"], split, row["image_sha256"], paths)


def _check_list(cases: Iterable[Case], path: Path) -> None:
    """Refuse a patient in two splits and a case that is listed twice."""
    first_of: dict[str, Case] = {}
    seen: set[str] = set()
    for case in cases:
        first = first_of.setdefault(case.patient_id, case)
        if first.split != case.split:
            raise CaseError(
                f"{path}: patient {case.patient_id} is in split {first.split} (case "
                f"{first.case_id}) and in split {case.split} (case {case.case_id}); expected one "
                "split a patient, or test figures would be about cases that were trained on. "
                "Put both cases into one split."
            )
        if case.case_id in seen:
            raise CaseError(
                f"{path}: case {case.case_id} is listed twice, expected once. Remove one line."
            )
        seen.add(case.case_id)


def _as_csv(cases: Iterable[Case]) -> str:
    """The list as text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((c.case_id, c.patient_id, c.split, c.image_sha256) for c in cases)
    return text.getvalue()


def _locked(site_folder: Path) -> AbstractContextManager[None]:
    """Hold the site's case list, so that two imports cannot drop each other's lines."""
    return locked(site_folder / ".cases.lock")
