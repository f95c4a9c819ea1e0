"""Paired comparisons and the verdict of non-inferiority."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from segfed.errors import CaseError
from segfed.evaluation import Estimate, judge_non_inferiority, paired_differences, wilcoxon_holm
from segfed.evaluation.paired import cases_for_verdict


def estimate(mean: float, low: float | None, high: float | None, reason: str = "") -> Estimate:
    return Estimate(mean, low, high, n=80, n_nan=0, reason=reason, low_with_failures=low)


def test_differences_are_new_minus_old():
    old = {"a": {"1": 0.5, "2": math.nan, "3": math.inf, "4": 3.0}}
    new = {"a": {"1": 0.7, "2": 0.9, "3": math.inf, "4": math.inf}}

    found = paired_differences(old, new)["a"]

    assert found["1"] == pytest.approx(0.2)
    assert math.isnan(found["2"])
    assert math.isnan(found["3"])
    assert found["4"] == math.inf


def test_unpaired_cases_are_named():
    with pytest.raises(CaseError, match=r"2 case\(s\).*a/2, b/1"):
        paired_differences({"a": {"1": 0.5, "2": 0.5}}, {"a": {"1": 0.5}, "b": {"1": 0.5}})


def test_all_declared_structures_must_keep_the_margin():
    kidney, tumor = estimate(0.0, -0.01, 0.01), estimate(-0.01, -0.03, 0.01)

    alone = judge_non_inferiority({"kidney": kidney}, margin=0.02)
    both = judge_non_inferiority({"kidney": kidney, "tumor": tumor}, margin=0.02)

    assert alone.is_non_inferior
    assert "no worse than on manual labels by more than 0.02 in every declared" in alone.sentence
    assert not both.is_non_inferior
    assert both.passes == {"kidney": True, "tumor": False}
    assert both.sentence.startswith("It is not shown")
    assert "by more than 0.02: tumor may lose more than 0.02 Dice (" in both.sentence
    assert "tumor -0.010 [-0.030, +0.010], 95% interval over 80 cases" in both.sentence


def test_a_lower_end_on_the_margin_does_not_pass():
    assert not judge_non_inferiority({"a": estimate(0, -0.02, 0.02)}, margin=0.02).is_non_inferior


def test_few_cases_may_show_no_failure_by_chance():
    # A failure loses 0.3: the margin is lost where 0.02 / 0.3 = 1 case in 15 fails, and
    # (14 / 15)^66 = 0.0105, (14 / 15)^67 = 0.0098. At a margin of 0.05: (5 / 6)^26 = 0.0087.
    # A margin above what failures can cost leaves only the fewest cases for an interval.
    assert [cases_for_verdict(margin) for margin in (0.02, 0.05, 0.4)] == [67, 26, 8]

    enough, few = (replace(estimate(0.0, -0.01, 0.01), n=n) for n in (67, 66))

    assert judge_non_inferiority({"a": enough}, margin=0.02).is_non_inferior
    refused = judge_non_inferiority({"a": few}, margin=0.02)
    assert refused.reasons == {"a": "cannot be judged from 66 cases (it takes 67)"}


def test_a_verdict_that_two_more_failures_would_overturn_is_not_given():
    lucky = replace(estimate(0.0, -0.01, 0.01), low_with_failures=-0.03)

    verdict = judge_non_inferiority({"a": lucky}, margin=0.02)

    assert not verdict.is_non_inferior
    assert (
        "a may lose more than 0.02 Dice if 2 more cases fail like the worst one" in verdict.sentence
    )


def test_without_an_interval_nothing_is_shown():
    verdict = judge_non_inferiority(
        {
            "a": estimate(0.1, None, None, "one case"),
            "b": Estimate(None, None, None, 0, 3, 0, "none"),
        }
    )

    assert not verdict.is_non_inferior
    assert "a +0.100 without an interval, one case" in verdict.sentence
    assert "b unknown, none" in verdict.sentence


def test_undeclared_structures_and_margins_are_refused():
    with pytest.raises(ValueError, match="declare at least one"):
        judge_non_inferiority({})
    with pytest.raises(ValueError, match="margin must be positive"):
        judge_non_inferiority({"a": estimate(0, 0, 0)}, margin=0)


def test_wilcoxon_p_values_are_corrected_by_holm():
    # Six positive differences: exact two-sided p = 2 / 2⁶ = 0.03125, five: 2 / 2⁵ = 0.0625.
    # Holm: twice the smaller, then the larger, never falling.
    six = {"a": {str(i): 0.1 * i for i in range(1, 7)}}
    five = {"a": {str(i): 0.1 * i for i in range(1, 6)}}

    found = wilcoxon_holm({"six": six, "five": five})

    assert found == {"six": pytest.approx(0.0625), "five": pytest.approx(0.0625)}


def test_no_difference_is_no_evidence_and_no_case_no_value():
    same = {"a": {"1": 0.0, "2": 0.0}}

    assert wilcoxon_holm({"same": same, "none": {"a": {"1": math.nan}}}) == {
        "same": 1.0,
        "none": None,
    }
    assert wilcoxon_holm({}) == {}
