"""Summaries never hide a case."""

from __future__ import annotations

import json
import math

import pytest

from segfed.evaluation import Score, describe, find_profile, summarize, write_scores


def rows(metric: str, *values: float, structure: str = "label_1") -> list[Score]:
    return [Score(f"case_{i}", structure, metric, value) for i, value in enumerate(values)]


def test_the_mean_is_over_finite_values_and_the_median_over_defined_ones():
    # Defined in order: 1, 2, 6, inf. Mean (1 + 2 + 6) / 3, median (2 + 6) / 2.
    assert describe([6.0, math.nan, 1.0, math.inf, 2.0]) == {
        "mean": 3.0,
        "median": 4.0,
        "n": 3,
        "n_nan": 1,
        "n_infinite": 1,
    }


def test_a_median_that_is_infinite_is_none():
    assert describe([1.0, math.inf])["median"] is None
    assert describe([math.inf, math.inf, 1.0])["median"] is None


def test_nothing_defined_has_neither_mean_nor_median():
    assert describe([math.nan]) == {
        "mean": None,
        "median": None,
        "n": 0,
        "n_nan": 1,
        "n_infinite": 0,
    }
    assert describe([])["n"] == 0


def test_an_infinite_distance_is_null_with_a_reason():
    profile = find_profile("generic", values={1})

    summary = summarize(rows("hd95_mm", 2.0, math.inf), profile=profile, missing=("case_1",))

    assert summary["missing_predictions"] == ["case_1"]
    (undefined,) = summary["undefined"]
    assert (undefined["case"], undefined["value"]) == ("case_1", None)
    assert "empty in one of the two labels" in undefined["reason"]
    json.dumps(summary, allow_nan=False)


def test_empty_masks_are_counted_by_which_one_is_empty():
    profile = find_profile("generic", values={1})
    scores = [
        Score("a", "label_1", "dice", math.nan, reference_empty=True, predicted_empty=True),
        Score("b", "label_1", "dice", 0.0, reference_empty=True),
        Score("c", "label_1", "dice", 0.0, predicted_empty=True),
        Score("d", "label_1", "dice", 0.0, predicted_empty=True),
        Score("e", "label_1", "dice", 0.9),
    ]

    structure = summarize(scores, profile=profile)["structures"]["label_1"]

    assert structure["n_both_empty"] == 1
    assert structure["n_only_reference_empty"] == 1
    assert structure["n_only_predicted_empty"] == 2
    assert structure["metrics"]["dice"]["n"] == 4
    assert structure["metrics"]["dice"]["n_nan"] == 1


def test_the_definitions_and_versions_behind_the_numbers_are_named():
    summary = summarize([], profile=find_profile("brats2023"))

    assert "surface-distance 0.1" in summary["definitions"]["hd95_mm"]
    assert summary["versions"]["surface-distance"] == "0.1"


def test_a_kits_summary_holds_the_kits_score():
    profile = find_profile("kits23")
    scores = [
        Score("a", structure, metric, 0.5)
        for structure in profile.structures
        for metric in profile.metrics
    ]

    assert summarize(scores, profile=profile)["kits_score"] == {
        "dice": 0.5,
        "surface_dice": 0.5,
        "tumor_dice": 0.5,
    }


def test_scores_are_written_in_full_precision(tmp_path):
    write_scores(tmp_path / "scores.csv", rows("dice", 1 / 3, math.nan))

    written = (tmp_path / "scores.csv").read_text().splitlines()
    assert written == [
        "case,structure,metric,value",
        "case_0,label_1,dice,0.3333333333333333",
        "case_1,label_1,dice,nan",
    ]
    assert float(written[1].rsplit(",", 1)[1]) == pytest.approx(1 / 3, abs=0)
