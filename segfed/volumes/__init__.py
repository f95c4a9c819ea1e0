"""Volumes on their grids: NIfTI and NRRD, from disk to RAS geometry and back."""

from segfed.volumes.formats import VOLUME_SUFFIXES
from segfed.volumes.grid import Grid, check_same_grid
from segfed.volumes.headers import text_in_nifti, write_without_text
from segfed.volumes.reading import (
    read_channels,
    read_grid,
    read_image,
    read_label,
)
from segfed.volumes.volume import Volume
from segfed.volumes.writing import write_image, write_label

__all__ = [
    "VOLUME_SUFFIXES",
    "Grid",
    "Volume",
    "check_same_grid",
    "read_channels",
    "read_grid",
    "read_image",
    "read_label",
    "text_in_nifti",
    "write_image",
    "write_label",
    "write_without_text",
]
