"""Scores of one case, empty masks and cropping included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segfed.errors import GeometryError
from segfed.evaluation import (
    LesionRule,
    added_path_length,
    dice,
    find_profile,
    hd95_mm,
    score_case,
    score_labels,
    score_lesions,
    surface_dice,
)
from segfed.sites import load_task
from segfed.volumes import Grid, Volume

SPACING_MM = (2.0, 1.0, 3.0)
SHAPE = (12, 10, 8)


def label(value: int = 2, *, at: int = 3) -> np.ndarray:
    data = np.zeros(SHAPE, dtype=np.uint8)
    data[at : at + 3, 2:6, 2:5] = value
    return data


def values(reference, predicted, profile="generic", **options):
    options.setdefault("task", load_task("kidney_tumor"))
    scores = score_labels(
        reference,
        predicted,
        spacing_mm=SPACING_MM,
        case_id="case_1",
        profile=find_profile(profile, **options),
    )
    return {(score.structure, score.metric): score.value for score in scores}


def test_every_structure_gets_every_metric_in_order():
    scores = score_labels(
        label(), label(), spacing_mm=SPACING_MM, case_id="case_1", profile=find_profile("kits23")
    )

    assert [(score.structure, score.metric, score.value) for score in scores] == [
        ("kidney_and_mass", "dice", 1),
        ("kidney_and_mass", "surface_dice", 1),
        ("mass", "dice", 1),
        ("mass", "surface_dice", 1),
        ("tumor", "dice", 1),
        ("tumor", "surface_dice", 1),
    ]
    assert {score.case_id for score in scores} == {"case_1"}


def test_a_tumor_taken_for_a_cyst_is_still_mass_and_kidney():
    found = values(label(2), label(3))

    assert found["kidney_and_mass", "dice"] == 1
    assert found["mass", "dice"] == 1
    assert found["tumor", "dice"] == 0


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("generic", {"dice": math.nan, "surface_dice": math.nan, "hd95_mm": math.nan}),
        ("kits23", {"dice": 1, "surface_dice": 1}),
        ("kits19", {"dice": 1, "surface_dice": 1}),
        (
            "brats2023",
            {"dice": 1, "hd95_mm": 0, "sensitivity": 1, "lesion_dice": 1, "lesion_hd95_mm": 0},
        ),
        ("brats2024-gli", {"dice": 1, "hd95_mm": 0, "sensitivity": 1}),
    ],
)
def test_a_structure_empty_in_both(profile, expected):
    empty = np.zeros(SHAPE, dtype=np.uint8)

    found = values(empty, empty, profile)

    for (_, metric), value in found.items():
        if metric in expected:
            assert value == pytest.approx(expected[metric], nan_ok=True)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("profile", "structure", "expected"),
    [
        ("generic", "tumor", {"dice": 0, "surface_dice": 0, "hd95_mm": math.inf}),
        ("kits23", "tumor", {"dice": 0, "surface_dice": 0}),
        ("kits19", "tumor", {"dice": 0, "surface_dice": 0}),
        ("brats2023", "whole_tumor", {"dice": 0, "hd95_mm": 374, "sensitivity": 0}),
        ("brats2024-gli", "whole_tumor", {"dice": 0, "hd95_mm": 374}),
    ],
)
def test_a_structure_empty_in_one(profile, structure, expected, swap):
    pair = (label(2), np.zeros(SHAPE, dtype=np.uint8))

    found = values(*(pair[::-1] if swap else pair), profile)

    assert {metric: found[structure, metric] for metric in expected} == expected


def test_a_missing_prediction_scores_like_an_empty_one():
    empty = np.zeros(SHAPE, dtype=np.uint8)

    assert values(label(), None) == pytest.approx(values(label(), empty), nan_ok=True)


def test_rows_say_which_masks_were_empty():
    scores = score_labels(
        label(2), label(1), spacing_mm=SPACING_MM, case_id="a", profile=find_profile("kits23")
    )

    empty = {row.structure: (row.reference_empty, row.predicted_empty) for row in scores}
    assert empty == {
        "kidney_and_mass": (False, False),
        "mass": (False, True),
        "tumor": (False, True),
    }


def test_another_shape_is_refused_with_the_case():
    with pytest.raises(GeometryError, match=r"case a: .*\(12, 10, 8\).*\(10, 12, 8\).*resample"):
        score_labels(
            label(),
            label().swapaxes(0, 1),
            spacing_mm=SPACING_MM,
            case_id="a",
            profile=find_profile("kits23"),
        )


def test_another_grid_is_refused_with_the_case():
    reference = Volume(label()[None], Grid(SHAPE, np.diag([2.0, 1.0, 3.0, 1.0])))
    predicted = Volume(label()[None], Grid(SHAPE, np.diag([2.0, 1.0, 3.5, 1.0])))

    with pytest.raises(GeometryError, match="predicted label of case a"):
        score_case(reference, predicted, case_id="a", profile=find_profile("kits23"))


def test_a_case_takes_its_spacing_from_the_grid():
    rotated = np.array([[0, 1.0, 0, 5], [2.0, 0, 0, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    grid = Grid(SHAPE, rotated)
    profile = find_profile("generic", task=load_task("kidney_tumor"))

    scores = score_case(
        Volume(label(at=3)[None], grid),
        Volume(label(at=4)[None], grid),
        case_id="a",
        profile=profile,
    )

    found = {(score.structure, score.metric): score.value for score in scores}
    assert found == pytest.approx(values(label(at=3), label(at=4)), nan_ok=True)
    assert found["tumor", "hd95_mm"] == pytest.approx(2.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_cropping_to_the_structures_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    reference, predicted = np.zeros((2, 14, 13, 12), dtype=np.uint8)
    for data in (reference, predicted):
        start = rng.integers(0, 6, size=3)
        window = tuple(
            slice(first, first + size) for first, size in zip(start, (5, 6, 4), strict=True)
        )
        data[window] = rng.integers(0, 4, size=(5, 6, 4))
    tumor = reference == 2, predicted == 2

    found = values(reference, predicted) | values(reference, predicted, "brats2023")

    limits = {"spacing_mm": SPACING_MM}
    tolerance_mm = load_task("kidney_tumor").tolerance_mm["tumor"]
    assert found["tumor", "dice"] == pytest.approx(dice(*tumor), nan_ok=True)
    assert found["tumor", "hd95_mm"] == pytest.approx(hd95_mm(*tumor, **limits), nan_ok=True)
    assert found["tumor", "surface_dice"] == pytest.approx(
        surface_dice(*tumor, tolerance_mm=tolerance_mm, **limits), nan_ok=True
    )
    assert found["tumor", "added_path_length"] == added_path_length(*tumor)
    whole = score_lesions(reference > 0, predicted > 0, rule=LesionRule(), **limits)
    assert found["whole_tumor", "lesion_dice"] == pytest.approx(whole.dice)


def test_brats2024_joins_lesions_of_a_tissue_that_touch_one_lesion_of_another():
    # 3 · 3 · 3 voxels of 6 mm³ of SNFH on both sides of ET, of which one is predicted.
    reference = np.zeros((21, 5, 5), dtype=np.uint8)
    reference[1:4, 1:4, 1:4] = reference[17:20, 1:4, 1:4] = 2
    reference[4:17, 1:4, 1:4] = 3
    predicted = np.where(np.arange(21)[:, None, None] < 17, reference, 0).astype(np.uint8)

    found = values(reference, predicted, "brats2024-gli")

    # One lesion of 54 voxels, 27 of them found; SNFH is the last that is joined: ET stays one.
    assert found["snfh", "lesion_dice"] == pytest.approx(2 * 27 / (54 + 27))
    assert found["enhancing_tumor", "lesion_dice"] == 1
