"""Lesion-wise scores of the BraTS challenges of 2023 and 2024."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from segfed.evaluation.masks import Label, Mask, SpacingMM, bounding_box, check_masks, check_spacing
from segfed.evaluation.overlap import dice
from segfed.evaluation.surface import ROUNDING, hd95_mm

PENALTY_MM = 374.0
"""Distance charged for a lesion that only one side has: the diagonal of a BraTS volume, rounded."""


@dataclass(frozen=True)
class LesionRule:
    """Which reference lesions count, and how far apart two parts of one lesion may lie."""

    minimum_mm3: float = 50.0
    """A reference lesion counts if its volume is *over* this."""

    dilations: int = 3
    """Iterations of dilation with the 18-neighbourhood."""


@dataclass(frozen=True)
class LesionScores:
    """Lesion-wise Dice and HD95 of one structure, and the counts behind them."""

    dice: float
    hd95_mm: float
    n_lesions: int
    n_false_positives: int


def score_lesions(
    reference: Mask, predicted: Mask, *, spacing_mm: SpacingMM, rule: LesionRule
) -> LesionScores:
    """Mean over reference lesions and false positives, a false positive scoring 0 and 374 mm.

    Reference components (26-connectivity) that merge when dilated are one lesion. Every predicted
    component that touches the dilated lesion belongs to it, whole; their union is scored against
    the undilated lesion. A predicted component without any lesion is a false positive, whatever
    its size; one that belongs to a lesion too small to count is not.

    Args:
        reference: Reference structure, shape (I, J, K).
        predicted: Structure being judged, on the same voxel grid.
        spacing_mm: Distance between voxel centres along I, J and K, in mm.
        rule: Size threshold and dilation.

    Returns:
        The scores; Dice 1 and distance 0 if there is neither a lesion that counts nor a false
        positive (in particular where both masks are empty).

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.
        ValueError: If a spacing is not positive.

    References:
        https://github.com/rachitsaluja/BraTS-2023-Metrics.
    """
    check_masks(reference, predicted)
    check_spacing(spacing_mm)
    # No margin: what dilation does outside the box of all masks merges and touches nothing that it
    # doesn't merge or touch inside.
    box = bounding_box(reference | predicted)
    if box is None:
        return LesionScores(dice=1.0, hd95_mm=0.0, n_lesions=0, n_false_positives=0)
    lesions, reach = _lesions(reference[box], rule.dilations)
    components = _components(predicted[box])
    smallest_mm3 = rule.minimum_mm3 * (1 + ROUNDING)
    matched: set[int] = set()
    lesion_dice, lesion_hd95_mm = [], []
    for index in range(1, int(lesions.max()) + 1):
        lesion = lesions == index
        touching = set(np.unique(components[reach == index]).tolist()) - {0}
        matched |= touching
        if np.count_nonzero(lesion) * math.prod(spacing_mm) <= smallest_mm3:
            continue
        found = np.isin(components, list(touching))
        lesion_dice.append(dice(lesion, found))
        distance_mm = hd95_mm(lesion, found, spacing_mm=spacing_mm)
        lesion_hd95_mm.append(distance_mm if math.isfinite(distance_mm) else PENALTY_MM)
    n_false_positives = int(components.max()) - len(matched)
    total = len(lesion_dice) + n_false_positives
    if total == 0:
        return LesionScores(dice=1.0, hd95_mm=0.0, n_lesions=0, n_false_positives=0)
    return LesionScores(
        dice=sum(lesion_dice) / total,
        hd95_mm=(sum(lesion_hd95_mm) + PENALTY_MM * n_false_positives) / total,
        n_lesions=len(lesion_dice),
        n_false_positives=n_false_positives,
    )


def _lesions(reference: Mask, dilations: int) -> tuple[Label, Label]:
    """Lesion number of each reference voxel, and of each voxel of the dilated reference."""
    neighbours = ndimage.generate_binary_structure(3, 2)
    reach = _components(ndimage.binary_dilation(reference, neighbours, iterations=dilations))
    return np.where(reference, reach, 0), reach


def _components(mask: Mask) -> Label:
    """Number of the connected component (26-connectivity) of each voxel, 0 outside the mask."""
    numbered: Label = cc3d.connected_components(mask, connectivity=26)
    return numbered
