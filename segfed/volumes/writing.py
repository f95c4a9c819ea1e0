"""Volumes into files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segfed.errors import GeometryError
from segfed.files import replacing
from segfed.volumes.formats import format_of
from segfed.volumes.volume import Volume
from segfed.volumes.voxels import check_finite, label_voxels


def write_image(volume: Volume, path: Path) -> None:
    """Write one channel: whole numbers in their own type, others as float32.

    The same volume gives the same bytes.

    Args:
        volume: One channel (1, I, J, K).
        path: Where to; the suffix (.nii, .nii.gz, .nrrd) chooses the format.

    Raises:
        GeometryError: If the volume has more than one channel.
        VolumeError: If a voxel is not finite or the suffix is unknown.
    """
    voxels = _only_channel(volume, path)
    if voxels.dtype.kind not in "iu":
        voxels = voxels.astype(np.float32, copy=False)
    check_finite(voxels, name=str(path))
    _write(voxels, volume, path)


def write_label(volume: Volume, path: Path, *, durable: bool = True) -> None:
    """Write label values as uint8 where they fit, else int16; same label, same bytes.

    Args:
        volume: Label values (1, I, J, K), whole numbers of any type.
        path: Where to; the suffix (.nii, .nii.gz, .nrrd) chooses the format.
        durable: Have the file appear whole or not at all, and on disk. Without it, for a file
            that nobody else knows yet, writing does not wait for the disk.

    Raises:
        GeometryError: If the volume has more than one channel.
        VolumeError: If a value cannot be a label value or the suffix is unknown.
    """
    voxels = label_voxels(_only_channel(volume, path), name=str(path))
    if durable:
        _write(voxels, volume, path)
    else:
        format_of(path).write(path, voxels, volume.grid)


def _only_channel(volume: Volume, path: Path) -> NDArray[Any]:
    if len(volume.data) == 1:
        voxels: NDArray[Any] = volume.data[0]
        return voxels
    raise GeometryError(
        f"Found {len(volume.data)} channels to be written to {path}; expected one. Write each "
        "channel to a file of its own."
    )


def _write(voxels: NDArray[Any], volume: Volume, path: Path) -> None:
    writer = format_of(path)
    with replacing(path) as temporary:
        writer.write(temporary, voxels, volume.grid)
