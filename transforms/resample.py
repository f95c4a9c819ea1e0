"""Resampling between grids whose axes are parallel: flips, permutations, spacings.

Preprocessing only turns an image to RAS and changes its spacing, so every axis can be interpolated
on its own. That is exact where voxels coincide, keeps integers integers, and needs far less memory
and time than a general warp, whose grid of coordinates alone outgrows a CT.
"""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

Affine = NDArray[np.float64]
Coordinates = NDArray[np.float64]

# A grid that runs away from another by less than this, in voxels at its far end, coincides with it:
# headers store spacings and directions as float32.
_TOLERANCE_VOXELS = 1e-2


def ras_grid(
    affine: Affine, shape: Sequence[int], *, spacing_mm: Sequence[float]
) -> tuple[Affine, tuple[int, int, int]]:
    """Affine and shape of the grid with RAS axes and a given spacing that covers the same field.

    The axes keep the image's directions: I becomes the one nearest to right, J to anterior, K to
    superior. The field's centre stays where it is. An axis that has the spacing already keeps its
    voxels.

    Args:
        affine: 4x4, from voxel index to RAS mm.
        shape: Voxels along I, J and K.
        spacing_mm: Wanted spacing along the RAS axes, in mm.
    """
    directions = nib.orientations.io_orientation(affine)  # per source axis: world axis, sign
    to_source = np.zeros((4, 4))
    to_source[3, 3] = 1
    new_shape = [0, 0, 0]
    for source, (world, sign) in enumerate(directions):
        target = int(world)
        step = spacing_mm[target] / float(np.linalg.norm(affine[:3, source]))
        if abs(step - 1) * shape[source] < _TOLERANCE_VOXELS:
            step = 1.0
        new_shape[target] = max(1, round(shape[source] / step))
        to_source[source, target] = sign * step
        centre, new_centre = (shape[source] - 1) / 2, (new_shape[target] - 1) / 2
        to_source[source, 3] = centre - sign * step * new_centre
    i, j, k = new_shape
    return affine @ to_source, (i, j, k)


def axis_map(
    affine: Affine, target_affine: Affine, target_shape: Sequence[int]
) -> tuple[tuple[int, ...], tuple[Coordinates, ...]]:
    """Which source axis each target axis runs along, and where its voxels lie on it.

    Returns:
        For the target axes I, J, K: the source axis, and the position of each target voxel on it
        in source voxels.

    Raises:
        ValueError: If the axes of the two grids are not parallel.
    """
    to_source = np.linalg.solve(affine, target_affine)
    linear = to_source[:3, :3]
    axes = tuple(int(axis) for axis in np.abs(linear).argmax(axis=0))
    along = np.zeros((3, 3))
    along[list(axes), range(3)] = linear[list(axes), range(3)]
    drift = float((np.abs(linear - along) * np.asarray(target_shape)).max())
    if sorted(axes) != [0, 1, 2] or drift > _TOLERANCE_VOXELS:
        raise ValueError(
            f"found grids whose axes are not parallel: affine {affine.tolist()} and target affine "
            f"{target_affine.tolist()}; expected a flip, a permutation or another spacing. Warp "
            "the volume with a registration tool first"
        )
    return axes, tuple(
        # Rounding takes away the noise of the solution, so that coinciding voxels coincide exactly.
        np.round(to_source[source, 3] + linear[source, target] * np.arange(size), 6)
        for target, (source, size) in enumerate(zip(axes, target_shape, strict=True))
    )


def resample(
    data: torch.Tensor,
    *,
    affine: Affine,
    target_affine: Affine,
    target_shape: Sequence[int],
    nearest: bool,
) -> torch.Tensor:
    """Values (C, I, J, K) of a volume on a parallel grid.

    Args:
        data: Shape (C, i, j, k).
        affine: 4x4 of ``data``, from voxel index to RAS mm.
        target_affine: 4x4 of the result.
        target_shape: Shape (I, J, K) of the result.
        nearest: Take the nearest voxel, which keeps type and values exact (a tie goes to the
            higher index); otherwise interpolate linearly. Outside the field, its edge continues.

    Returns:
        A tensor that may share memory with ``data`` where the grids coincide.

    Raises:
        ValueError: If the axes of the two grids are not parallel.
    """
    axes, positions = axis_map(affine, target_affine, target_shape)
    data = data.permute(0, *(axis + 1 for axis in axes))
    # Axes that shrink most go first, so that the others have less to do.
    for axis in sorted(range(3), key=lambda axis: len(positions[axis]) / data.shape[axis + 1]):
        data = take(data, positions[axis], axis=axis + 1, nearest=nearest)
    return data


def take(
    data: torch.Tensor, positions: Coordinates, *, axis: int, nearest: bool = False
) -> torch.Tensor:
    """Values of a tensor at (fractional) positions along one axis."""
    last = data.shape[axis] - 1
    positions = positions.clip(0, last)
    if np.array_equal(positions, np.arange(last + 1)):
        return data
    lower = np.floor(positions + 0.5 if nearest else positions).astype(np.int64)
    low = data.index_select(axis, torch.from_numpy(lower).to(data.device))
    fraction = positions - lower
    if nearest or not fraction.any():
        return low
    upper = torch.from_numpy((lower + 1).clip(0, last)).to(data.device)
    weight = torch.from_numpy(fraction).to(data.device, low.dtype)
    high = data.index_select(axis, upper)
    return low.lerp_(high, weight.reshape([-1 if d == axis else 1 for d in range(data.ndim)]))
