"""Which file format a path means."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from segfed.errors import VolumeError
from segfed.volumes import nifti, nrrd

_FORMATS: dict[str, ModuleType] = {".nii.gz": nifti, ".nii": nifti, ".nrrd": nrrd}

VOLUME_SUFFIXES = tuple(_FORMATS)
"""How the names of volume files end."""


def format_of(path: Path) -> ModuleType:
    """The module that reads and writes files with this path's suffix, in upper or lower case.

    Raises:
        VolumeError: If no format has that suffix.
    """
    for suffix, module in _FORMATS.items():
        if path.name.lower().endswith(suffix):
            return module
    raise VolumeError(
        f"Found the file name {path}; expected one that ends in {', '.join(VOLUME_SUFFIXES)}. "
        "Convert the image, or correct its name."
    )
