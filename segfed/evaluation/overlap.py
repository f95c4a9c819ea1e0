"""Agreement between the volumes of two masks."""

from __future__ import annotations

import math

import numpy as np

from segfed.evaluation.masks import Mask, check_masks


def dice(reference: Mask, predicted: Mask) -> float:
    """Twice the common volume over the sum of both volumes: 2|A∩B| / (|A|+|B|).

    Args:
        reference: Reference structure, shape (I, J, K).
        predicted: Structure being judged, on the same voxel grid.

    Returns:
        A value in [0, 1]. NaN if both masks are empty, 0 if exactly one is.

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.
    """
    check_masks(reference, predicted)
    total = np.count_nonzero(reference) + np.count_nonzero(predicted)
    if total == 0:
        return math.nan
    return 2 * np.count_nonzero(reference & predicted) / total


def sensitivity(reference: Mask, predicted: Mask) -> float:
    """Share of the reference's voxels that the prediction found.

    Returns:
        A value in [0, 1]. NaN if the reference is empty: there was nothing to find.

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.
    """
    check_masks(reference, predicted)
    total = np.count_nonzero(reference)
    if total == 0:
        return math.nan
    return np.count_nonzero(reference & predicted) / total


def volume_difference_mm3(reference: Mask, predicted: Mask, *, voxel_mm3: float) -> float:
    """Predicted volume minus reference volume, in mm³: positive where too much was drawn.

    Empty masks have volume 0; the difference of two empty masks is 0.

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.
    """
    check_masks(reference, predicted)
    return (np.count_nonzero(predicted) - np.count_nonzero(reference)) * voxel_mm3
