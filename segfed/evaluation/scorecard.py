"""Scores of one case: one row per structure and metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from segfed.errors import GeometryError
from segfed.evaluation import effort, overlap
from segfed.evaluation.lesions import LesionScores, score_lesions
from segfed.evaluation.masks import Label, SpacingMM, bounding_box, structure_mask
from segfed.evaluation.profiles import Profile
from segfed.evaluation.surface import SurfaceDistances, surface_distances
from segfed.volumes import Volume, check_same_grid


@dataclass(frozen=True)
class Score:
    """One metric of one structure in one case; a row of ``scores.csv``.

    ``reference_empty`` and ``predicted_empty`` say whether the structure was there at all, so that
    a table can count the empty masks behind a mean.
    """

    case_id: str
    structure: str
    metric: str
    value: float
    reference_empty: bool = False
    predicted_empty: bool = False


def score_case(
    reference: Volume, predicted: Volume | None, *, case_id: str, profile: Profile
) -> tuple[Score, ...]:
    """Every metric of a profile for every structure of one case.

    Args:
        reference: The reference label.
        predicted: The label being judged, on the same grid; None for a case without a prediction,
            which scores as an empty one.
        case_id: Name for the rows and for messages.
        profile: What is measured.

    Raises:
        GeometryError: If the two labels lie on different grids; the message names the case.
    """
    if predicted is not None:
        check_same_grid(
            predicted.grid,
            reference.grid,
            name=f"predicted label of case {case_id}",
            reference="reference label",
        )
    return score_labels(
        reference.data[0],
        None if predicted is None else predicted.data[0],
        spacing_mm=reference.grid.spacing_mm,
        case_id=case_id,
        profile=profile,
    )


def score_labels(
    reference: Label,
    predicted: Label | None,
    *,
    spacing_mm: SpacingMM,
    case_id: str,
    profile: Profile,
) -> tuple[Score, ...]:
    """``score_case`` for plain integer arrays (I, J, K), known to share one grid.

    Only the box around the labelled voxels is looked at: background changes no metric.

    Raises:
        GeometryError: If the shapes differ or are not 3D.
    """
    if predicted is None:
        predicted = np.zeros_like(reference)
    if reference.ndim != 3 or reference.shape != predicted.shape:
        raise GeometryError(
            f"case {case_id}: the reference label has shape {reference.shape}, the predicted one "
            f"{predicted.shape}; both must be 3D on one grid: resample the prediction first"
        )
    # As much wider as lesions are dilated, so that they are numbered as in the whole volume.
    margin = max((rule.dilations for rule in profile.lesion_rules.values()), default=0)
    foreground = (reference != 0) | (predicted != 0)
    box = bounding_box(foreground, margin_voxels=margin) or (slice(0, 1),) * 3
    scores = []
    for structure in profile.structures:
        pair = _Pair(
            reference[box],
            predicted[box],
            structure=structure,
            spacing_mm=spacing_mm,
            profile=profile,
        )
        scores += [
            Score(
                case_id,
                structure,
                metric,
                pair.measure(metric),
                reference_empty=pair.reference_empty,
                predicted_empty=pair.predicted_empty,
            )
            for metric in profile.metrics
        ]
    return tuple(scores)


class _Pair:
    """Two labels' masks of one structure, and intermediate results that several metrics share."""

    def __init__(
        self,
        reference: Label,
        predicted: Label,
        *,
        structure: str,
        spacing_mm: SpacingMM,
        profile: Profile,
    ) -> None:
        values = profile.structures[structure]
        self.reference_label = reference
        self.whole_masks = structure_mask(reference, values), structure_mask(predicted, values)
        box = bounding_box(self.whole_masks[0] | self.whole_masks[1]) or (slice(0, 1),) * 3
        self.reference, self.predicted = (mask[box] for mask in self.whole_masks)
        self.structure = structure
        self.spacing_mm = spacing_mm
        self.profile = profile
        self.reference_empty = not self.reference.any()
        self.predicted_empty = not self.predicted.any()

    def measure(self, metric: str) -> float:
        """Value of a metric, after the profile's rules for empty masks."""
        if self.reference_empty and self.predicted_empty and metric in self.profile.both_empty:
            return self.profile.both_empty[metric]
        if self.reference_empty != self.predicted_empty and metric in self.profile.one_empty:
            return self.profile.one_empty[metric]
        return float(_METRICS[metric](self))

    @property
    def voxel_mm3(self) -> float:
        return prod(self.spacing_mm)

    @cached_property
    def surface(self) -> SurfaceDistances:
        return surface_distances(self.reference, self.predicted, spacing_mm=self.spacing_mm)

    @cached_property
    def effort(self) -> effort.Effort:
        return effort.measure_effort(self.reference, self.predicted, voxel_mm3=self.voxel_mm3)

    @cached_property
    def lesions(self) -> LesionScores:
        rule = self.profile.lesion_rules[self.structure]
        structures = self.profile.structures
        return score_lesions(
            *self.whole_masks,
            spacing_mm=self.spacing_mm,
            rule=rule,
            joining=[structure_mask(self.reference_label, structures[n]) for n in rule.joined_by],
        )


_METRICS: dict[str, Callable[[_Pair], float]] = {
    "dice": lambda pair: overlap.dice(pair.reference, pair.predicted),
    "surface_dice": lambda pair: pair.surface.dice(
        tolerance_mm=pair.profile.tolerance_mm[pair.structure]
    ),
    "hd95_mm": lambda pair: pair.surface.hd95_mm(),
    "sensitivity": lambda pair: overlap.sensitivity(pair.reference, pair.predicted),
    "volume_difference_mm3": lambda pair: overlap.volume_difference_mm3(
        pair.reference, pair.predicted, voxel_mm3=pair.voxel_mm3
    ),
    "added_path_length": lambda pair: pair.effort.added_path_length,
    "added_mm3": lambda pair: pair.effort.added_mm3,
    "removed_mm3": lambda pair: pair.effort.removed_mm3,
    "lesion_dice": lambda pair: pair.lesions.dice,
    "lesion_hd95_mm": lambda pair: pair.lesions.hd95_mm,
}
