"""Images on their way into a site: checked, copied or converted once, never overwritten."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from segfed.errors import CaseError
from segfed.files import replacing, sha256_bytes, sha256_file
from segfed.protocol import Split
from segfed.sites.cases import Case, channel_paths, check_case_id, list_case, naming_case
from segfed.sites.tasks import Task
from segfed.volumes import (
    Volume,
    check_same_grid,
    read_image,
    text_in_nifti,
    write_image,
    write_without_text,
)

logger = logging.getLogger(__name__)


def hash_image(paths: Iterable[Path]) -> str:
    """The identity of an image: its file's hash, or that of its channels' joined hashes."""
    hashes = [sha256_file(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else sha256_bytes("".join(hashes).encode())


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
    hash of its source, unless its header holds text that might name the patient: that is left out,
    and the voxels stay as they are. Anything else is written as NIfTI, without text. Everything is
    read and checked before anything is written. A file that is there already with the same content
    is kept.

    Args:
        site_folder: The site.
        task: The site's task; ``channels`` must hold exactly its channels.
        case_id: Letters, digits, ``_`` and ``-``.
        patient_id: Whose case it is; one patient's cases share a split.
        split: What the case is for.
        channels: Source file or volume of every channel.

    Raises:
        CaseError: If a channel is missing or too much, the name is unsafe, or another image lies
            where this one belongs.
        GeometryError: If the channels lie on different grids.
        VolumeError: If a file cannot be read.
    """
    check_case_id(case_id)
    if set(channels) != set(task.channels):
        raise CaseError(
            f"Case {case_id} has the channels {sorted(channels)}, but task {task.name!r} needs "
            f"{list(task.channels)}. Add what is missing, or choose another task."
        )
    with naming_case(case_id):
        _check_readable(case_id, task, channels)
    paths = channel_paths(site_folder, case_id, task)
    for channel, path in paths.items():
        _place(channels[channel], path, case_id=case_id)
    return Case(case_id, patient_id, split, hash_image(paths.values()), paths)


def add_case(
    site_folder: Path,
    *,
    task: Task,
    case_id: str,
    patient_id: str,
    split: Split,
    channels: Mapping[str, Path | Volume],
) -> Case:
    """Copy or convert a case's images into the site and list it.

    Args and errors are those of `place_images` and `list_case`.
    """
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
            name=f"channel {channel} of case {case_id}",
            reference=f"its channel {task.channels[0]}",
        )


def _place(source: Path | Volume, target: Path, *, case_id: str) -> None:
    """Write one image file, unless the same content is there already."""
    unchanged = source if isinstance(source, Path) and source.name.endswith(".nii.gz") else None
    if unchanged and target.exists() and sha256_file(unchanged) == sha256_file(target):
        return
    with replacing(target) as staged:
        if unchanged and (texts := text_in_nifti(unchanged)):
            logger.warning(
                "Case %s: its image came with text, which might name the patient, in %s. The site "
                "keeps it without.",
                case_id,
                ", ".join(texts),
            )
            write_without_text(unchanged, staged)
        elif unchanged:
            shutil.copyfile(unchanged, staged)
        else:
            write_image(source if isinstance(source, Volume) else read_image(source), staged)
        if target.exists() and sha256_file(target) != sha256_file(staged):
            raise CaseError(
                f"Case {case_id}: {target} already holds another image than the one to be "
                "imported. An image is never overwritten: give the new case another name, or "
                "remove the file if you are sure that nothing was labelled on it."
            )
