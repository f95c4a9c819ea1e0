"""Lesion-wise scores of the BraTS challenges of 2023 and 2024."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

    joined_by: tuple[str, ...] = ()
    """Structures that make one lesion of the reference lesions beside the same lesion of theirs."""


@dataclass(frozen=True)
class LesionScores:
    """Lesion-wise Dice and HD95 of one structure, and the counts behind them."""

    dice: float
    hd95_mm: float
    n_lesions: int
    n_false_positives: int


def score_lesions(
    reference: Mask,
    predicted: Mask,
    *,
    spacing_mm: SpacingMM,
    rule: LesionRule,
    joining: Sequence[Mask] = (),
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
        joining: Reference masks of the structures that join lesions, in the rule's order: those
            which touch the same lesion of the first (18-neighbourhood; where one touches several,
            the one that comes first in the array counts) are one, then those of the next.

    Returns:
        The scores; Dice 1 and distance 0 if there is neither a lesion that counts nor a false
        positive (in particular where both masks are empty).

    Raises:
        GeometryError: If the masks differ in shape or are not 3D.
        TypeError: If a mask is not boolean.
        ValueError: If a spacing is not positive.

    References:
        https://github.com/rachitsaluja/BraTS-2023-Metrics; for ``joining``
        https://github.com/rachitsaluja/BraTS-2024-Metrics.
    """
    check_masks(reference, predicted)
    check_spacing(spacing_mm)
    box = bounding_box(reference | predicted)
    if box is None:
        return LesionScores(dice=1.0, hd95_mm=0.0, n_lesions=0, n_false_positives=0)
    lesions, reach = _lesions(reference, rule.dilations)
    for mask in joining:
        joined = _joined(lesions, _lesions(mask, rule.dilations)[0])
        lesions, reach = joined[lesions], joined[reach]
    # Cropped after the numbering, because the numbers decide which of two neighbours comes first.
    lesions, reach, components = lesions[box], reach[box], _components(predicted[box])
    smallest_mm3 = rule.minimum_mm3 * (1 + ROUNDING)
    matched: set[int] = set()
    lesion_dice, lesion_hd95_mm = [], []
    for index in np.unique(lesions[lesions > 0]):
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


def _joined(lesions: Label, others: Label) -> Label:
    """New number of each lesion: of those that touch the same other lesion first, the lowest."""
    first = np.full(int(lesions.max()) + 1, np.iinfo(np.int64).max)
    padded = np.pad(others, 1)
    for offset in np.argwhere(ndimage.generate_binary_structure(3, 2)):
        window = tuple(slice(o, o + n) for o, n in zip(offset, lesions.shape, strict=True))
        touching = (lesions > 0) & (padded[window] > 0)
        np.minimum.at(first, lesions[touching], padded[window][touching])
    numbers = np.arange(len(first))
    has_neighbour = first < np.iinfo(np.int64).max
    _, lowest, group = np.unique(first[has_neighbour], return_index=True, return_inverse=True)
    numbers[has_neighbour] = numbers[has_neighbour][lowest][group]
    return numbers


def _components(mask: Mask) -> Label:
    """Number of the connected component (26-connectivity) of each voxel, 0 outside the mask."""
    numbered: Label = cc3d.connected_components(mask, connectivity=26)
    return numbered
