"""The cases of a site: images that are written once, and the list of them."""

from __future__ import annotations

import csv
import fcntl
import io
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from segfed.errors import CaseError, ConfigError
from segfed.files import replacing, sha256_bytes, sha256_file, write_text
from segfed.protocol import Split
from segfed.sites.tasks import Task
from segfed.volumes import Volume, check_same_grid, read_image, write_image

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


def hash_image(paths: Iterable[Path]) -> str:
    """The identity of an image: its file's hash, or that of its channels' joined hashes."""
    hashes = [sha256_file(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else sha256_bytes("".join(hashes).encode())


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


def place_images(
    site_folder: Path,
    *,
    task: Task,
    case_id: str,
    patient_id: str,
    split: Split,
    channels: Mapping[str, Path | Volume],
) -> Case:
    """Put a case's images into the site's folder without listing the case yet.

    A source that is a .nii.gz file already is copied byte by byte, so that the image keeps the
    hash of its source; anything else is written as NIfTI. Everything is read and checked before
    anything is written. A file that is there already with the same content is kept.

    Args:
        site_folder: The site.
        task: The site's task; ``channels`` must hold exactly its channels.
        case_id: Letters, digits, ``_`` and ``-``.
        patient_id: Whose case it is; one patient's cases share a split.
        split: What the case is for.
        channels: Source file or volume of every channel.

    Raises:
        CaseError: If a channel is missing or too much, the name is unsafe, the patient is in
            another split, or another image lies where this one belongs.
        GeometryError: If the channels lie on different grids.
        VolumeError: If a file cannot be read.
    """
    check_case_id(case_id)
    if set(channels) != set(task.channels):
        raise CaseError(
            f"Case {case_id} has the channels {sorted(channels)}, but task {task.name!r} needs "
            f"{list(task.channels)}. Add what is missing, or choose another task."
        )
    _check_readable(case_id, task, channels)
    paths = channel_paths(site_folder, case_id, task)
    for channel, path in paths.items():
        _place(channels[channel], path, case_id=case_id)
    return Case(case_id, patient_id, split, hash_image(paths.values()), paths)


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


def add_case(
    site_folder: Path,
    *,
    task: Task,
    case_id: str,
    patient_id: str,
    split: Split,
    channels: Mapping[str, Path | Volume],
) -> Case:
    """Copy or convert a case's images into the site and list it; see `place_images`."""
    case = place_images(
        site_folder,
        task=task,
        case_id=case_id,
        patient_id=patient_id,
        split=split,
        channels=channels,
    )
    list_case(site_folder, case, task=task)
    return case


def _check_readable(case_id: str, task: Task, channels: Mapping[str, Path | Volume]) -> None:
    """Read every channel once, and refuse those that lie on different grids."""
    first = None
    for channel in task.channels:
        source = channels[channel]
        grid = (source if isinstance(source, Volume) else read_image(source)).grid
        first = first or grid
        check_same_grid(
            grid,
            first,
            name=f"Case {case_id}: channel {channel}",
            reference=f"channel {task.channels[0]}",
        )


def _place(source: Path | Volume, target: Path, *, case_id: str) -> None:
    """Write one image file, unless the same content is there already."""
    unchanged = source if isinstance(source, Path) and source.name.endswith(".nii.gz") else None
    if unchanged and target.exists() and sha256_file(unchanged) == sha256_file(target):
        return
    with replacing(target) as staged:
        if unchanged:
            shutil.copyfile(unchanged, staged)
        else:
            write_image(source if isinstance(source, Volume) else read_image(source), staged)
        if target.exists() and sha256_file(target) != sha256_file(staged):
            raise CaseError(
                f"Case {case_id}: {target} already holds another image than the one to be "
                "imported. An image is never overwritten: give the new case another name, or "
                "remove the file if you are sure that nothing was labelled on it."
            )


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


@contextmanager
def _locked(site_folder: Path) -> Iterator[None]:
    """Hold the site's case list, so that two imports cannot drop each other's lines."""
    with (site_folder / ".cases.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
