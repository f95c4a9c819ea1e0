"""What phantoms and simulated readers are made of: smooth random fields, distances, RAS order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segfed.volumes import Grid

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]
Triple = tuple[float, float, float]

_LATTICE_STEPS = 2.0  # lattice points per correlation length: linear interpolation loses 3 % of SD
# By how many voxels the distance to the nearest centre across a surface exceeds the distance to
# the surface: 0.5 where the surface runs along an axis, less where it is oblique.
_OVERSHOOT = 0.45
_FAR_MM = 1e3  # stands for the distance to a mask that is empty


def to_ras(voxels: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], Triple]:
    """A view of voxels (I, J, K) with axes pointing right, anterior, superior, and its spacing.

    Oblique grids are turned to the nearest such order: the patient then lies a little askew.
    """
    order = nib.orientations.io_orientation(grid.affine)
    spacing = np.empty(3)
    spacing[order[:, 0].astype(int)] = grid.spacing_mm
    return nib.orientations.apply_orientation(voxels, order), as_triple(spacing)


def from_ras(voxels: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """The inverse of `to_ras`: voxels in the order of a grid's own axes."""
    order = nib.orientations.io_orientation(grid.affine)
    ras = nib.orientations.axcodes2ornt("RAS")
    back = nib.orientations.ornt_transform(ras, order)
    turned: NDArray[Any] = nib.orientations.apply_orientation(voxels, back)
    return turned


class SmoothField:
    """A Gaussian random field with zero mean and unit SD, evaluated slab by slab.

    Args:
        rng: Source of the field; two fields of one generator are independent.
        extent_mm: Size of the region that it covers, along R, A and S.
        correlation_mm: SD of the Gaussian that smooths white noise into the field.
    """

    def __init__(
        self, rng: np.random.Generator, *, extent_mm: Sequence[float], correlation_mm: float
    ) -> None:
        self._step_mm = correlation_mm / _LATTICE_STEPS
        shape = [int(np.ceil(size / self._step_mm)) + 2 for size in extent_mm]
        noise = rng.standard_normal(shape, dtype=np.float32)
        # "wrap" gives every point the same variance; "reflect" would double it at the faces
        smooth = ndimage.gaussian_filter(noise, _LATTICE_STEPS, mode="wrap", truncate=3.0)
        sd = np.prod([_smoothed_sd(size) for size in shape])
        self._lattice = (smooth / np.float32(sd)).astype(np.float32)

    def at(self, positions_mm: Sequence[NDArray[np.floating[Any]]]) -> Field:
        """Values (I, J, K) at the products of three position vectors, in mm."""
        return interpolate(self._lattice, [p / self._step_mm for p in positions_mm])


def _smoothed_sd(size: int) -> float:
    """SD that the smoothing leaves of white noise on a ring of so many points."""
    impulse = np.zeros(size)
    impulse[0] = 1
    smooth = ndimage.gaussian_filter1d(impulse, _LATTICE_STEPS, mode="wrap", truncate=3.0)
    return float(np.linalg.norm(smooth))


def smooth_field(
    rng: np.random.Generator,
    *,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    correlation_mm: float,
) -> Field:
    """A `SmoothField` on a whole grid (I, J, K)."""
    positions = voxel_positions(shape, spacing_mm)
    extent_mm = [size * step for size, step in zip(shape, spacing_mm, strict=True)]
    return SmoothField(rng, extent_mm=extent_mm, correlation_mm=correlation_mm).at(positions)


def voxel_positions(shape: Sequence[int], spacing_mm: Sequence[float]) -> list[Field]:
    """Distance of every voxel's centre from the first one, in mm, along each axis."""
    return [
        (np.arange(size) * step).astype(np.float32)
        for size, step in zip(shape, spacing_mm, strict=True)
    ]


def interpolate(lattice: Field, index: Sequence[NDArray[np.floating[Any]]]) -> Field:
    """Values (I, J, K) of a lattice at the products of three vectors of fractional indices.

    Linear, axis by axis, which needs no array of coordinates; held constant outside.
    """
    values = lattice
    for axis, positions in enumerate(index):
        last = values.shape[axis] - 1
        clipped = np.clip(positions, 0, last)
        low = np.minimum(clipped.astype(np.intp), max(last - 1, 0))
        weight_shape = [1, 1, 1]
        weight_shape[axis] = -1
        weight = (clipped - low).astype(np.float32).reshape(weight_shape)
        lower, upper = values.take(low, axis), values.take(np.minimum(low + 1, last), axis)
        values = lower + (upper - lower) * weight
    return values


def signed_distance(mask: Mask, spacing_mm: Sequence[float]) -> Field:
    """Distance of every voxel's centre from a mask's surface in mm, negative inside.

    The surface runs somewhere between an inside and an outside voxel, so a share of a voxel is
    taken off the distance between their centres. An empty mask is about 1000 mm away.
    """
    overshoot_mm = _OVERSHOOT * float(np.mean(spacing_mm))
    outside = _distance(~mask, spacing_mm) - overshoot_mm
    inside = _distance(mask, spacing_mm) - overshoot_mm
    return np.where(mask, -inside, outside).astype(np.float32)


def _distance(mask: Mask, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Distance of the voxels of a mask from the nearest voxel that is not in it."""
    if mask.all():
        return np.full(mask.shape, _FAR_MM)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    return distance


def as_triple(values: Sequence[float] | NDArray[np.float64]) -> Triple:
    """Three numbers as plain ones."""
    x, y, z = (float(value) for value in values)
    return x, y, z
