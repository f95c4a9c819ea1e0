"""What a reader changed: from a proposal to the label that was submitted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segfed.evaluation.masks import Mask, bounding_box, check_masks


@dataclass(frozen=True)
class Effort:
    """How much of a proposal a reader changed.

    ``changed_fraction`` is the changed volume over the volume of both masks together: 0 for an
    unchanged proposal, 1 where nothing of it was kept, NaN where both masks are empty.
    """

    added_mm3: float
    removed_mm3: float
    changed_fraction: float
    added_path_length: int


def measure_effort(submitted: Mask, proposal: Mask, *, voxel_mm3: float) -> Effort:
    """Volume that a reader added and removed, and the contour that had to be drawn anew.

    Args:
        submitted: Structure in the label that the reader submitted, shape (I, J, K).
        proposal: The same structure in the proposal that the reader began with.
        voxel_mm3: Volume of a voxel, in mm³.

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.
    """
    check_masks(submitted, proposal)
    added = np.count_nonzero(submitted & ~proposal)
    removed = np.count_nonzero(proposal & ~submitted)
    union = np.count_nonzero(submitted | proposal)
    return Effort(
        added_mm3=added * voxel_mm3,
        removed_mm3=removed * voxel_mm3,
        changed_fraction=(added + removed) / union if union else math.nan,
        added_path_length=added_path_length(submitted, proposal),
    )


def added_path_length(submitted: Mask, proposal: Mask) -> int:
    """Voxels of the submitted label's contour which the proposal's contour lacks.

    The contour is drawn slice by slice along K, as readers draw it: the voxels of a mask that
    share an edge in their slice with a voxel outside it. Outside the image counts as outside.

    Args:
        submitted: Structure in the label that the reader submitted, shape (I, J, K).
        proposal: The same structure in the proposal that the reader began with.

    Returns:
        A number of voxels; 0 if the submitted mask is empty.

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.

    References:
        Vaassen et al. 2020, https://doi.org/10.1016/j.phro.2019.12.001.
    """
    check_masks(submitted, proposal)
    box = bounding_box(submitted, margin_voxels=1)
    if box is None:
        return 0
    return int(np.count_nonzero(_contour(submitted[box]) & ~_contour(proposal[box])))


def _contour(mask: Mask) -> Mask:
    """Voxels of a mask with a neighbour outside it in their own slice."""
    in_slice = np.zeros((3, 3, 3), dtype=bool)
    in_slice[1, :, 1] = in_slice[:, 1, 1] = True
    contour: Mask = mask & ~ndimage.binary_erosion(mask, in_slice)
    return contour
