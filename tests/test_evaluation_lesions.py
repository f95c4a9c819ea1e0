"""Lesion-wise scores, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segfed.evaluation import LesionRule, hd95_mm, score_lesions

SHAPE = (40, 20, 18)
ONE_MM = (1.0, 1.0, 1.0)


def cubes(*corners: tuple[int, int, int], size: int = 4) -> np.ndarray:
    """Cubes with the given first voxels; one of 4³ = 64 mm³ is over the threshold of 50."""
    mask = np.zeros(SHAPE, dtype=bool)
    for i, j, k in corners:
        mask[i : i + size, j : j + size, k : k + size] = True
    return mask


def score(reference, predicted, *, rule=LesionRule(), spacing_mm=ONE_MM):  # noqa: B008
    return score_lesions(reference, predicted, spacing_mm=spacing_mm, rule=rule)


def test_one_lesion_found_one_missed_and_one_invented():
    reference = cubes((2, 2, 2), (30, 2, 2))
    predicted = cubes((2, 2, 2)) | cubes((15, 14, 12), size=1)

    found = score(reference, predicted)

    # Two lesions and one false positive: (1 + 0 + 0) / 3 and (0 + 374 + 374) / 3.
    assert (found.n_lesions, found.n_false_positives) == (2, 1)
    assert found.dice == pytest.approx(1 / 3)
    assert found.hd95_mm == pytest.approx(2 * 374 / 3)


@pytest.mark.parametrize(("gap", "n_lesions"), [(6, 1), (7, 2)])
def test_lesions_that_merge_when_dilated_are_one(gap, n_lesions):
    # Three dilations on both sides: at a gap of 6 voxels the two touch, at 7 they don't.
    found = score(cubes((2, 2, 2), (6 + gap, 2, 2)), cubes((2, 2, 2), (6 + gap, 2, 2)))

    assert found.n_lesions == n_lesions
    assert found.dice == 1


def test_whole_components_that_touch_the_dilated_lesion_are_scored_against_the_lesion():
    reference = cubes((2, 2, 2))
    # Rows 8 to 15: 2 voxels away from the lesion, so within its 3 dilations.
    predicted = cubes((2, 2, 2)) | cubes((8, 2, 2), (12, 2, 2))

    found = score(reference, predicted)

    assert (found.n_lesions, found.n_false_positives) == (1, 0)
    # 64 voxels in common; 64 + 3 · 64 in all.
    assert found.dice == pytest.approx(2 * 64 / (64 + 192))
    assert found.hd95_mm == pytest.approx(hd95_mm(reference, predicted, spacing_mm=ONE_MM))


def test_a_component_on_a_lesion_too_small_to_count_is_no_false_positive():
    # 27 mm³ is not over 50.
    found = score(cubes((2, 2, 2), size=3), cubes((2, 2, 2), size=2))

    assert (found.n_lesions, found.n_false_positives) == (0, 0)
    assert (found.dice, found.hd95_mm) == (1, 0)


def test_a_lesion_of_exactly_the_threshold_does_not_count():
    slab = np.zeros(SHAPE, dtype=bool)
    slab[2:7, 2:7, 2:4] = True  # 50 mm³
    nothing = np.zeros(SHAPE, dtype=bool)

    assert score(slab, nothing).n_lesions == 0
    assert score(slab, nothing, spacing_mm=(1.0, 1.0, 1.0000001)).n_lesions == 0
    assert score(slab, nothing, rule=LesionRule(minimum_mm3=49.0)).n_lesions == 1


def test_the_threshold_is_in_mm3():
    # 8 voxels of 7.5 mm³ are 60 mm³.
    small = cubes((2, 2, 2), size=2)

    assert score(small, small, spacing_mm=(1.5, 2.0, 2.5)).n_lesions == 1


def test_false_positives_of_any_size_count_without_a_lesion():
    nothing = np.zeros(SHAPE, dtype=bool)

    found = score(nothing, cubes((2, 2, 2), size=1))

    assert (found.dice, found.hd95_mm, found.n_false_positives) == (0, 374, 1)


def test_two_empty_masks_are_perfect():
    nothing = np.zeros(SHAPE, dtype=bool)

    assert (score(nothing, nothing).dice, score(nothing, nothing).hd95_mm) == (1, 0)


def test_diagonal_voxels_are_one_component():
    # Twelve voxels along a diagonal, joined only by their corners.
    diagonal = np.zeros(SHAPE, dtype=bool)
    diagonal[range(12), range(12), range(12)] = True
    nothing = np.zeros(SHAPE, dtype=bool)

    assert score(nothing, diagonal).n_false_positives == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_background_around_the_lesions_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    reference, predicted = (rng.random((12, 11, 10)) > 0.99 for _ in range(2))
    rule = LesionRule(minimum_mm3=1.0, dilations=1)
    padded = [np.pad(mask, 5) for mask in (reference, predicted)]

    assert score(reference, predicted, rule=rule) == score(*padded, rule=rule)


def test_lesions_that_touch_the_same_lesion_of_a_joining_structure_are_one():
    reference = cubes((2, 2, 2), (30, 2, 2))
    between = np.zeros(SHAPE, dtype=bool)
    between[6:30, 2:6, 2:6] = True
    rule = LesionRule(joined_by=("other",))

    apart = score(reference, cubes((2, 2, 2)))
    joined = score_lesions(
        reference, cubes((2, 2, 2)), spacing_mm=ONE_MM, rule=rule, joining=[between]
    )

    # Apart: one found, one missed, (1 + 0) / 2. As one of 128 voxels, of which 64 are found:
    # 2 · 64 / (128 + 64).
    assert (apart.n_lesions, apart.dice) == (2, pytest.approx(1 / 2))
    assert (joined.n_lesions, joined.dice) == (1, pytest.approx(2 / 3))


def test_a_lesion_between_two_of_the_joining_structure_goes_with_the_first():
    # Along the first axis: lesion, other, lesion, other, lesion.
    reference = cubes((0, 2, 2), (8, 2, 2), (16, 2, 2))
    others = cubes((4, 2, 2), (12, 2, 2))

    found = score_lesions(
        reference,
        reference,
        spacing_mm=ONE_MM,
        rule=LesionRule(dilations=1, joined_by=("other",)),
        joining=[others],
    )

    assert found.n_lesions == 2
