"""Agreement between the surfaces of two masks, by the definitions of DeepMind's surface-distance.

The surface of a mask consists of marching-cubes elements that sit on voxel corners and count by
their area. The tables of areas come from the package ``surface-distance`` (Nikolov et al. 2018,
https://arxiv.org/abs/1809.04430). The distances are computed here: the package measures them on the
whole volume and sorts pairs of Python floats, which takes minutes on a CT, and calls names that
later versions of NumPy and SciPy no longer have. Tests hold both to the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from surface_distance import lookup_tables

from segfed.evaluation.masks import Mask, SpacingMM, bounding_box, check_masks, check_spacing

Floats = NDArray[np.float64]

ROUNDING = 1e-6
"""Relative slack at a threshold: headers hold spacing in single precision, so that two voxels of
1 mm may measure 2.0000001 mm, and must still pass a tolerance of 2 mm."""

DEFINITION = (
    "marching-cubes surface elements weighted by area, as in surface-distance 0.1 "
    "(Nikolov et al. 2018)"
)
HD95_DEFINITION = (
    "robust Hausdorff distance: the larger of the two directed 95th percentiles over " + DEFINITION
)


@dataclass(frozen=True)
class SurfaceDistances:
    """From each element of one surface to the other surface, both ways.

    Distances in mm, ascending, and the areas in mm² in the same order. Where one mask is empty its
    arrays are empty and the other's distances are infinite.
    """

    reference_to_predicted_mm: Floats
    reference_areas_mm2: Floats
    predicted_to_reference_mm: Floats
    predicted_areas_mm2: Floats

    def dice(self, *, tolerance_mm: float) -> float:
        """Surface Dice at a tolerance; see ``surface_dice``."""
        total = self.reference_areas_mm2.sum() + self.predicted_areas_mm2.sum()
        if total == 0:
            return math.nan
        limit_mm = tolerance_mm * (1 + ROUNDING)
        agreeing = self.reference_areas_mm2[self.reference_to_predicted_mm <= limit_mm].sum()
        agreeing += self.predicted_areas_mm2[self.predicted_to_reference_mm <= limit_mm].sum()
        return float(agreeing / total)

    def hd95_mm(self) -> float:
        """Robust Hausdorff distance in mm; see ``hd95_mm``."""
        if len(self.reference_areas_mm2) == 0 and len(self.predicted_areas_mm2) == 0:
            return math.nan
        return max(
            _percentile(self.reference_to_predicted_mm, self.reference_areas_mm2),
            _percentile(self.predicted_to_reference_mm, self.predicted_areas_mm2),
        )


def surface_distances(
    reference: Mask, predicted: Mask, *, spacing_mm: SpacingMM
) -> SurfaceDistances:
    """Distances between the surfaces of two masks.

    The field is taken to be surrounded by background: a structure that the image's edge cuts has
    a surface there.

    Args:
        reference: Reference structure, shape (I, J, K).
        predicted: Structure being judged, on the same voxel grid.
        spacing_mm: Distance between voxel centres along I, J and K, in mm.

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.
        ValueError: If a spacing is not positive.
    """
    check_masks(reference, predicted)
    check_spacing(spacing_mm)
    corners_ref, areas_ref = _surface_elements(reference, spacing_mm)
    corners_pred, areas_pred = _surface_elements(predicted, spacing_mm)
    return SurfaceDistances(
        *_ascending(_nearest_mm(corners_ref, corners_pred, spacing_mm), areas_ref),
        *_ascending(_nearest_mm(corners_pred, corners_ref, spacing_mm), areas_pred),
    )


def surface_dice(
    reference: Mask, predicted: Mask, *, spacing_mm: SpacingMM, tolerance_mm: float
) -> float:
    """Fraction of both surfaces' area that lies within a tolerance of the other surface.

    Args:
        reference: Reference structure, shape (I, J, K).
        predicted: Structure being judged, on the same voxel grid.
        spacing_mm: Distance between voxel centres along I, J and K, in mm.
        tolerance_mm: Largest distance still counted as agreement, in mm. Take it from the
            disagreement between human readers for this structure.

    Returns:
        A value in [0, 1]. NaN if both masks are empty, 0 if exactly one is.

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.
        ValueError: If a spacing is not positive or the tolerance is negative.

    References:
        Nikolov et al. 2018, https://arxiv.org/abs/1809.04430. Variants that count voxel faces or
        voxels differ from this one by tenths; never compare across them.
    """
    if not tolerance_mm >= 0:
        raise ValueError(
            f"tolerance_mm must be zero or more, got {tolerance_mm}; take the disagreement "
            "between human readers"
        )
    distances = surface_distances(reference, predicted, spacing_mm=spacing_mm)
    return distances.dice(tolerance_mm=tolerance_mm)


def hd95_mm(reference: Mask, predicted: Mask, *, spacing_mm: SpacingMM) -> float:
    """Robust Hausdorff distance: the larger of the two directed 95th percentiles, in mm.

    A directed percentile is the smallest distance within which 95 % of a surface's *area* lies.

    Args:
        reference: Reference structure, shape (I, J, K).
        predicted: Structure being judged, on the same voxel grid.
        spacing_mm: Distance between voxel centres along I, J and K, in mm.

    Returns:
        A distance in mm. NaN if both masks are empty, infinite if exactly one is.

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.
        ValueError: If a spacing is not positive.

    References:
        ``compute_robust_hausdorff`` of surface-distance 0.1. Tools differ by more than 100 mm on
        what they call HD95, so a report must name this one.
    """
    return surface_distances(reference, predicted, spacing_mm=spacing_mm).hd95_mm()


def _surface_elements(mask: Mask, spacing_mm: SpacingMM) -> tuple[NDArray[np.int64], Floats]:
    """Voxel corners (N, 3) that a mask's surface touches, and the area in mm² at each (N,)."""
    box = bounding_box(mask)
    if box is None:
        return np.empty((0, 3), dtype=np.int64), np.empty(0)
    padded = np.pad(mask[box], 1).view(np.uint8)
    shape = tuple(size - 1 for size in padded.shape)
    codes = np.zeros(shape, dtype=np.uint8)
    for corner, bit in np.ndenumerate(lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL):
        window = tuple(slice(step, step + size) for step, size in zip(corner, shape, strict=True))
        codes |= padded[window] * np.uint8(bit)
    on_surface = (codes != 0) & (codes != 255)
    areas_mm2 = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    origin = [side.start for side in box]
    return np.argwhere(on_surface) + origin, areas_mm2[codes[on_surface]]


def _nearest_mm(
    start: NDArray[np.int64], target: NDArray[np.int64], spacing_mm: SpacingMM
) -> Floats:
    """Distance in mm from each start corner (N, 3) to its nearest target corner, shape (N,)."""
    if len(start) == 0 or len(target) == 0:
        return np.full(len(start), math.inf)
    # A tree over the two surfaces, because they are thousands of times smaller than the volume.
    _, nearest = cKDTree(target * np.asarray(spacing_mm)).query(start * np.asarray(spacing_mm))
    # Recomputed from whole numbers of voxels: a distance that equals the tolerance must not be
    # lost to the rounding of large coordinates.
    offsets_mm = (start - target[nearest]) * np.asarray(spacing_mm)
    distances: Floats = np.sqrt((offsets_mm**2).sum(axis=1))
    return distances


def _ascending(distances_mm: Floats, areas_mm2: Floats) -> tuple[Floats, Floats]:
    """Both arrays in the order of rising distance; equal distances by rising area."""
    order = np.lexsort((areas_mm2, distances_mm))
    return distances_mm[order], areas_mm2[order]


def _percentile(distances_mm: Floats, areas_mm2: Floats) -> float:
    """Smallest distance in mm within which 95 % of the area lies; infinite without a surface."""
    if len(distances_mm) == 0:
        return math.inf
    covered = np.cumsum(areas_mm2) / areas_mm2.sum()
    position = int(np.searchsorted(covered, 0.95))
    return float(distances_mm[min(position, len(distances_mm) - 1)])
