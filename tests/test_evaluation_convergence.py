"""The convergence score, worked out by hand."""

from __future__ import annotations

import math

import pytest

from segfed.evaluation import convergence_score

SECONDS = [{"a": 10.0, "b": 4.0}, {"a": 5.0, "b": 20.0}, {"a": 10.0, "b": 10.0}]


def test_a_round_lasts_as_long_as_its_slowest_site_and_counts_from_its_end():
    # 10 s at 0, then 20 s at 0.5, then 10 s at 0.5 still, because 0.4 is no better.
    assert convergence_score([0.5, 0.4, 0.8], SECONDS) == pytest.approx(0.5 * 30 / 40)


def test_the_best_result_is_kept_up_to_the_horizon():
    # 40 s as above, then 60 s at 0.8.
    score = convergence_score([0.5, 0.4, 0.8], SECONDS, horizon_seconds=100)

    assert score == pytest.approx((0.5 * 30 + 0.8 * 60) / 100)


def test_no_round_has_no_score():
    assert math.isnan(convergence_score([], []))


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="1 Dice values and times of 3 rounds"):
        convergence_score([0.5], SECONDS)
    with pytest.raises(ValueError, match="rounds took 40 s"):
        convergence_score([0.5, 0.4, 0.8], SECONDS, horizon_seconds=30)
