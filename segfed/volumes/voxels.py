"""Checks of voxel values: finite intensities, whole label values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segfed.errors import VolumeError

_MAX_LABEL = np.iinfo(np.int16).max


def check_finite(voxels: NDArray[Any], *, name: str) -> None:
    """Refuse NaN and infinite voxels.

    Args:
        voxels: Shape (I, J, K).
        name: The file or volume that they belong to, for the message.

    Raises:
        VolumeError: If a voxel is not finite; gives their number and the first index.
    """
    # One sum instead of a mask as large as the image: NaN and infinities survive addition.
    with np.errstate(invalid="ignore"):
        if np.isfinite(voxels.sum(dtype=np.float64)):
            return
    wrong = np.argwhere(~np.isfinite(voxels))
    raise VolumeError(
        f"Found {len(wrong)} voxel(s) that are NaN or infinite in {name}, the first at index "
        f"{_index(wrong[0])}; expected finite numbers. Replace them, for example by the "
        "background's value, or convert the image again from its source."
    )


def label_voxels(voxels: NDArray[Any], *, name: str) -> NDArray[np.uint8] | NDArray[np.int16]:
    """Label values as uint8 where they fit, else as int16.

    Whole numbers stored as floating point, as in BraTS, are accepted. uint8 comes back as it is,
    without a copy; anything else is converted slice by slice.

    Args:
        voxels: Shape (I, J, K), any real type.
        name: The file or volume that they belong to, for the message.

    Raises:
        VolumeError: If a value is NaN, negative, larger than 32767 or not a whole number.
    """
    if voxels.dtype == np.uint8:
        return voxels
    largest = max(_checked_maximum(voxels[:, :, k], k=k, name=name) for k in _slices(voxels))
    if largest <= np.iinfo(np.uint8).max:
        return voxels.astype(np.uint8)
    return voxels.astype(np.int16)


def _checked_maximum(plane: NDArray[Any], *, k: int, name: str) -> float:
    """Largest value of one slice (I, J), all of whose values can be label values."""
    with np.errstate(invalid="ignore"):
        good = (plane >= 0) & (plane <= _MAX_LABEL) & (plane == np.floor(plane))
    if good.all():
        return float(plane.max())
    i, j = np.argwhere(~good)[0]
    raise VolumeError(
        f"Found the value {plane[i, j]} at voxel {_index((i, j, k))} of the label {name}; expected "
        f"whole numbers from 0 to {_MAX_LABEL}. Check that the file is a label and not an image or "
        "a probability map, and that it was resampled with nearest neighbours."
    )


def _slices(voxels: NDArray[Any]) -> range:
    """Indices along K, along which a volume read from a file is contiguous."""
    return range(voxels.shape[2])


def _index(position: Any) -> tuple[int, ...]:
    """A voxel index as plain integers, for messages."""
    return tuple(int(value) for value in position)
