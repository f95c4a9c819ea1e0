"""Import of a KiTS folder: ``case_00000/imaging.nii.gz`` and ``segmentation.nii.gz``."""

from __future__ import annotations

from pathlib import Path

from segfed.errors import ConfigError
from segfed.sites.imports.source import SourceCase


def find_kits(folder: Path, *, channel: str = "ct") -> tuple[SourceCase, ...]:
    """The cases of a KiTS folder; those whose image was not downloaded have no channel.

    Args:
        folder: The repository, or its folder ``data`` or ``dataset``.
        channel: The task's only channel.

    Raises:
        ConfigError: If there is no case in the folder.
    """
    folders = sorted(
        case
        for place in (folder, folder / "data", folder / "dataset")
        for case in place.glob("case_*")
        if (case / "segmentation.nii.gz").is_file() or (case / "imaging.nii.gz").is_file()
    )
    if not folders:
        raise ConfigError(
            f"No KiTS case at {folder}; expected folders such as case_00000 with imaging.nii.gz "
            "and segmentation.nii.gz, there or in data/ or dataset/. Check the path."
        )
    return tuple(
        SourceCase(
            case_id=case.name,
            patient_id=case.name,
            channels={channel: image} if (image := case / "imaging.nii.gz").is_file() else {},
            label=label if (label := case / "segmentation.nii.gz").is_file() else None,
        )
        for case in folders
    )
