"""Volumes from files, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segfed.errors import CaseError, VolumeError
from segfed.volumes.formats import format_of
from segfed.volumes.grid import Grid, check_same_grid
from segfed.volumes.volume import Volume
from segfed.volumes.voxels import check_finite, label_voxels


def read_image(path: Path) -> Volume:
    """Intensities (1, I, J, K) of an image as float32, on the file's own grid.

    Raises:
        VolumeError: If the file is missing, damaged, not one 3D image, or holds NaN or infinities.
        GeometryError: If its orientation is damaged or its axes are not perpendicular.
    """
    _check_exists(path)
    voxels, grid = format_of(path).read(path, dtype=np.float32)
    check_finite(voxels, name=str(path))
    return Volume(voxels[np.newaxis], grid)


def read_channels(paths: Mapping[str, Path]) -> Volume:
    """Intensities (C, I, J, K) of a case's channels as float32, in the order of ``paths``.

    Args:
        paths: File of each channel by name, such as ``{"t1c": Path("t1c.nii.gz")}``.

    Raises:
        CaseError: If channels are missing; names all of them.
        GeometryError: If a channel is on another grid than the first one.
        VolumeError: If a file cannot be used, as for ``read_image``.
    """
    missing = [f"{channel} ({path})" for channel, path in paths.items() if not path.is_file()]
    if missing or not paths:
        raise CaseError(
            f"Found no file for channel {', '.join(missing) or '(none was asked for)'}; expected "
            "one image for each channel. Add the missing files, or import the case again."
        )
    first, *_ = paths
    grids = {channel: read_grid(path) for channel, path in paths.items()}
    for channel, grid in grids.items():
        check_same_grid(
            grid,
            grids[first],
            name=f"channel {channel} ({paths[channel]})",
            reference=f"channel {first} ({paths[first]})",
        )
    if len(paths) == 1:
        return read_image(paths[first])
    data = np.empty((len(paths), *grids[first].shape), dtype=np.float32)
    for index, path in enumerate(paths.values()):
        data[index] = read_image(path).data[0]
    return Volume(data, grids[first])


def read_label(path: Path) -> Volume:
    """Label values (1, I, J, K) as uint8 where they fit, else int16, on the file's own grid.

    Whole numbers stored as floating point are accepted.

    Raises:
        VolumeError: If the file is missing, damaged, not one 3D image, or holds a value that is
            negative, NaN, above 32767 or not a whole number.
        GeometryError: If its orientation is damaged or its axes are not perpendicular.
    """
    _check_exists(path)
    voxels, grid = format_of(path).read(path)
    return Volume(label_voxels(voxels, name=str(path))[np.newaxis], grid)


def read_grid(path: Path) -> Grid:
    """Grid of an image or label, from the file's header alone.

    Raises:
        VolumeError: If the file is missing, its header is damaged, or it is not one 3D image.
        GeometryError: If its orientation is damaged or its axes are not perpendicular.
    """
    _check_exists(path)
    grid: Grid = format_of(path).read_grid(path)
    return grid


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise VolumeError(
            f"Found no file at {path}; expected an image or label there. Check the path, or import "
            "the case again."
        )
    if path.stat().st_size == 0:
        raise VolumeError(
            f"Found an empty file at {path} (0 bytes); expected an image or label. Copy the file "
            "again: an interrupted copy leaves such files."
        )
