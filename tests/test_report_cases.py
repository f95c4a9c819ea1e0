"""Test cases one by one, on figures that can be worked out by hand."""

from __future__ import annotations

import math

import pytest

from segfed.report.build import build_report
from segfed.report.case_charts import agreement_chart, size_chart
from segfed.report.cases import list_cases
from segfed.report.page import render_html
from segfed.report.values import Scores
from segfed.study.records import ScoreRow
from tests.report_samples import write_run

VOLUMES = {"1": (1000.0, 100.0), "2": (2000.0, -100.0), "3": (0.0, 0.0)}


def scores(dice, *, regime="federated"):
    """Two arms' scores of three cases of site a, and one of the external site x."""
    rows = []
    for arm, values in dice.items():
        for case, value in values.items():
            volume, difference = VOLUMES.get(case, (500.0, 0.0))
            site = "x" if case == "x" else "a"
            rows += [
                ScoreRow(regime, arm, 0, "all", site, site == "x", case, "tumor", metric, found)
                for metric, found in (
                    ("dice", value),
                    ("volume_difference_mm3", difference),
                    ("reference_mm3", volume),
                )
            ]
    return Scores(rows)


FOUND = list_cases(
    scores(
        {
            "manual": {"1": 0.8, "2": 0.5, "3": math.nan, "x": 0.7},
            "assisted": {"1": 0.3, "2": 0.6, "3": math.nan, "x": 0.7},
        }
    )
)


def test_the_case_with_the_lowest_dice_of_any_arm_comes_first_and_undefined_ones_last():
    assert [row["case"] for row in FOUND["cases"]] == ["1", "2", "x", "3"]
    assert FOUND["cases"][0]["dice"] == {"manual": 0.8, "assisted": 0.3}
    assert FOUND["cases"][-1]["dice"] == {"manual": None, "assisted": None}
    assert [row["external"] for row in FOUND["cases"]] == [False, False, True, False]


def test_limits_of_agreement_are_the_mean_and_196_standard_deviations():
    agreement = FOUND["structures"]["tumor"]["agreement"]["manual"]

    # 100, -100, 0, 0: mean 0, variance 20000 / 3
    assert agreement["mean_mm3"] == pytest.approx(0.0)
    assert agreement["high_mm3"] == pytest.approx(1.96 * math.sqrt(20000 / 3))
    assert (agreement["low_mm3"], agreement["n"]) == (-agreement["high_mm3"], 4)


def test_a_run_without_a_shared_model_lists_no_cases():
    assert list_cases(scores({"manual": {"1": 0.5}}, regime="local")) is None


def test_charts_show_the_cases_that_have_the_structure():
    tumor = FOUND["structures"]["tumor"]

    # Three of four cases have a tumor, and two arms each; volumes are drawn for all four.
    assert size_chart(tumor, "tumor").count("<circle") == 6
    assert agreement_chart(tumor, "tumor").count("<circle") == 8
    assert "limits of agreement" in agreement_chart(tumor, "tumor")


def test_volumes_are_written_out(monkeypatch):
    monkeypatch.setitem(VOLUMES, "1", (241_600.0, 0.0))

    tumor = list_cases(scores({"manual": {"1": 0.8, "x": 0.5}}))["structures"]["tumor"]

    assert "volumes from 0.5 to 242 ml" in size_chart(tumor, "tumor")


def test_a_run_of_before_volumes_were_kept_has_no_charts():
    rows = [ScoreRow("pooled", "manual", 0, "all", "a", False, "1", "tumor", "dice", 0.5)]

    tumor = list_cases(Scores(rows))["structures"]["tumor"]

    assert size_chart(tumor, "tumor") is None
    assert agreement_chart(tumor, "tumor") is None


def test_one_case_has_no_limits():
    found = list_cases(scores({"manual": {"1": 0.5}}))["structures"]["tumor"]

    assert found["agreement"]["manual"]["low_mm3"] is None
    assert agreement_chart(found, "tumor").count("<circle") == 1


def test_the_page_lists_every_case_and_its_charts(tmp_path):
    run = write_run(tmp_path, dice=lambda *_: 0.7, cases={"a": 8, "b": 2}, external={"x": 2})

    page = render_html(build_report(run))

    assert "The worst test cases" in page
    assert "All 12 cases, the worst first" in page
    assert page.count("Predicted minus reference volume of") == 3
