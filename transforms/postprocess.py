"""From class scores on the network's grid back to a label on the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from transforms.resample import axis_map, take

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
        uint8, shape (I, J, K), on the scores' device and in their memory order; a tie goes to the
        lower class.

    Raises:
        ValueError: If the grids' axes are not parallel, or there are more than 256 classes.
    """
    if scores.ndim != 4 or not 1 <= len(scores) <= 256:
        raise ValueError(f"scores must have shape (1 to 256, i, j, k), found {tuple(scores.shape)}")
    if isinstance(scores, MetaTensor):
        scores = scores.as_tensor()
    axes, positions = axis_map(_matrix(affine), _matrix(target_affine), target_shape)
    # All work is done in the scores' axis order, so that memory is read and written in blocks.
    first, middle, last = (positions[axes.index(source)] for source in range(3))
    shape = (len(first), len(middle), len(last))
    label = torch.empty(shape, dtype=torch.uint8, device=scores.device)
    thickness = max(1, _SLAB_SCORES // (len(scores) * len(middle) * len(last)))
    for start in range(0, len(first), thickness):
        slab = take(scores, first[start : start + thickness], axis=1).float()
        # The last axis before it grows along the second: copying whole rows is much faster.
        slab = take(take(slab, last, axis=3), middle, axis=2)
        # Not argmax, which is ten times slower across channels on a CPU.
        label[start : start + thickness] = slab.max(dim=0).indices
    return label.permute(axes)


def _matrix(affine: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A 4x4 of float64 from a tensor or nested numbers."""
    return np.asarray(affine, dtype=np.float64)
