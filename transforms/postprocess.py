"""From class scores on the network's grid back to a label on the image's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch.nn.functional import pad

from transforms.resample import Coordinates, axis_map, take

# Scores of one slab on the target grid: 2**22 float32 are 16 MiB, whatever the image's size.
_SLAB_SCORES = 2**22


def restore(
    scores: torch.Tensor, *, affine: Any, target_affine: Any, target_shape: Sequence[int]
) -> torch.Tensor:
    """Label of the highest class score at every voxel of the image's own grid.

    Scores, not labels, are interpolated (linearly): the border between two classes then runs
    smoothly between coarse voxels. Where the grids coincide, flipped or permuted or not, each
    voxel gets the argmax of its own scores. Voxels outside the scores' field take its edge.
    Works slab by slab, so that the memory needed beside input and result is bounded.

    Args:
        scores: Shape (K, i, j, k), one channel a class; logits or probabilities. At most 256.
        affine: 4x4 of the scores, from voxel index to RAS mm.
        target_affine: 4x4 of the image.
        target_shape: Shape (I, J, K) of the image.

    Returns:
        uint8, shape (I, J, K), on the CPU and in the scores' memory order; a tie goes to the lower
        class.

    Raises:
        ValueError: If the grids' axes are not parallel, or there are more than 256 classes.
    """
    if scores.ndim != 4 or not 1 <= len(scores) <= 256:
        raise ValueError(f"scores must have shape (1 to 256, i, j, k), found {tuple(scores.shape)}")
    if isinstance(scores, MetaTensor):
        scores = scores.as_tensor()
    i, j, k = scores.shape[1:]
    return restore_slabs(
        [scores],
        box=(slice(0, i), slice(0, j), slice(0, k)),
        shape=(i, j, k),
        affine=affine,
        target_affine=target_affine,
        target_shape=target_shape,
    )


def restore_slabs(
    slabs: Iterable[torch.Tensor],
    *,
    box: Sequence[slice],
    shape: Sequence[int],
    affine: Any,
    target_affine: Any,
    target_shape: Sequence[int],
) -> torch.Tensor:
    """As ``restore``, from scores that come slab by slab and exist in a box only.

    Args:
        slabs: Shape (K, i, J, K) each: consecutive planes along the first axis, which fill the box.
        box: Where the scores lie on their grid; all around it is background, class 0, for certain.
        shape: Shape of the whole grid.
        affine: 4x4 of the whole grid, from voxel index to RAS mm.
        target_affine: 4x4 of the image.
        target_shape: Shape (I, J, K) of the image.

    Returns:
        uint8, shape (I, J, K), on the CPU.

    Raises:
        ValueError: If the grids' axes are not parallel.
    """
    axes, positions = axis_map(_matrix(affine), _matrix(target_affine), target_shape)
    # All work is done in the scores' axis order, so that memory is read and written in blocks.
    along = [positions[axes.index(source)] for source in range(3)]
    label = torch.zeros([len(places) for places in along], dtype=torch.uint8)
    region, reached = [], []
    for places, part, size in zip(along, box, shape, strict=True):
        # Counted from the voxel before the box, where background begins.
        places = places.clip(0, size - 1) - (part.start - 1)
        here = np.flatnonzero((places > 0) & (places < part.stop - part.start + 1))
        region.append(slice(here[0], here[-1] + 1) if len(here) else slice(0))
        reached.append(places[here])
    inside, first, in_plane = label[tuple(region)], reached[0], reached[1:]
    known, before = 0, None
    for slab in _between_background(slabs):
        if before is not None:
            # What lies between two slabs needs the last plane of one and the first of the other.
            pair = torch.cat([before, slab[:, :1]], dim=1)
            between = (first > known - 1) & (first < known)
            _fill(inside, between, pair, first - (known - 1), in_plane)
        within = (first >= known) & (first <= known + slab.shape[1] - 1)
        _fill(inside, within, slab, first - known, in_plane)
        known, before = known + slab.shape[1], slab[:, -1:].clone()
    return label.permute(axes)


def _fill(
    label: torch.Tensor,
    chosen: NDArray[np.bool_],
    planes: torch.Tensor,
    first: Coordinates,
    in_plane: Sequence[Coordinates],
) -> None:
    """Write the planes of a label that some planes of scores decide, a few at a time."""
    middle, last = in_plane
    thickness = max(1, _SLAB_SCORES // max(1, len(planes) * len(middle) * len(last)))
    rows = np.flatnonzero(chosen)
    for start in range(0, len(rows), thickness):
        some = rows[start : start + thickness]
        scores = pad(take(planes, first[some], axis=1).float(), (1, 1, 1, 1))
        scores[0, :, [0, -1], :] = 1
        scores[0, :, :, [0, -1]] = 1
        # The last axis before it grows along the second: copying whole rows is much faster.
        scores = take(take(scores, last, axis=3), middle, axis=2)
        # Not argmax, which is ten times slower across channels on a CPU.
        label[some] = scores.max(dim=0).indices.to("cpu", torch.uint8)


def _between_background(slabs: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The slabs, with a plane of background before and after them."""
    edge = None
    for slab in slabs:
        if edge is None:
            edge = torch.zeros_like(slab[:, :1])
            edge[0] = 1
            yield edge
        yield slab
    if edge is not None:
        yield edge


def _matrix(affine: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A 4x4 of float64 from a tensor or nested numbers."""
    return np.asarray(affine, dtype=np.float64)
