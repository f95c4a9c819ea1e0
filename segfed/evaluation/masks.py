"""Structures as boolean masks, and the box that holds all that a comparison needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segfed.errors import GeometryError

Mask = NDArray[np.bool_]
Label = NDArray[np.integer[Any]]
SpacingMM = tuple[float, float, float]
Box = tuple[slice, slice, slice]


def structure_mask(label: Label, values: Iterable[int]) -> Mask:
    """Mask of the voxels whose label value belongs to a structure, shape of ``label``."""
    # A comparison per value, because np.isin is several times slower on the small sets used here.
    mask = np.zeros(label.shape, dtype=np.bool_)
    for value in values:
        mask |= label == value
    return mask


def bounding_box(mask: NDArray[np.generic], *, margin_voxels: int = 0) -> Box | None:
    """Smallest box around the nonzero voxels, widened but kept inside the array.

    Returns:
        Three slices, or None if every voxel is zero.
    """
    slices = []
    box: tuple[slice, ...] = (slice(None),) * mask.ndim
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask[box].any(axis=others))
        if len(occupied) == 0:
            return None
        start = max(int(occupied[0]) - margin_voxels, 0)
        slices.append(slice(start, int(occupied[-1]) + 1 + margin_voxels))
        # Later axes are searched inside the slab found so far: most of a CT is background.
        box = (*slices, *(slice(None),) * (mask.ndim - axis - 1))
    first, second, third = slices
    return first, second, third


def check_masks(reference: Mask, predicted: Mask) -> None:
    """Refuse what is not a pair of boolean 3D masks on one voxel grid.

    Raises:
        TypeError: If a mask is not boolean.
        GeometryError: If the shapes differ or are not 3D.
    """
    for name, mask in (("reference", reference), ("predicted", predicted)):
        if mask.dtype != np.bool_:
            raise TypeError(
                f"{name} must be a boolean mask, got dtype {mask.dtype}; "
                "select one structure first, e.g. label == 2"
            )
    if reference.ndim != 3 or reference.shape != predicted.shape:
        raise GeometryError(
            "reference and predicted must be 3D masks on one voxel grid, got shapes "
            f"{reference.shape} and {predicted.shape}; resample the prediction to the "
            "reference before comparing"
        )


def check_spacing(spacing_mm: SpacingMM) -> None:
    """Refuse a voxel spacing that is not three positive numbers of mm."""
    if len(spacing_mm) != 3 or not all(0 < step < float("inf") for step in spacing_mm):
        raise ValueError(
            f"spacing_mm must be three positive numbers, got {tuple(spacing_mm)}; "
            "take it from the grid of the label"
        )
