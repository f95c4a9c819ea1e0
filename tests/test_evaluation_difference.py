"""Intervals of differences, and what they become if a few more cases fail, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from segfed.evaluation import difference_for_these_sites, new_models, these_sites
from segfed.evaluation.difference import low_with_failures, site_spreads, worst_spread


def sites(**differences: list[float]) -> dict[str, dict[str, float]]:
    return {
        site: {f"case_{i:03}": value for i, value in enumerate(values)}
        for site, values in differences.items()
    }


def test_a_small_site_where_nothing_failed_does_not_count_as_one_that_never_fails():
    # Site a has no variance and b 10 cases of 0 and 10 of -0.2: sum of squares 20 · 0.01 = 0.2,
    # over 4 + 20 - 2 = 22 degrees of freedom 0.00909. One variance for all sites:
    # 0.00909 · (1/4 + 1/20) / 4 = 0.000681818, and t(22, 97.5 %) = 2.0739.
    values = sites(a=[0.0] * 4, b=[0.0] * 10 + [-0.2] * 10)

    found = difference_for_these_sites(values, seed=0)
    alone = these_sites(values, seed=0, minimum_cases=8)

    assert found.mean == pytest.approx(-0.05)
    assert found.ci_low == pytest.approx(-0.05 - 2.0739 * math.sqrt(0.000681818), abs=1e-5)
    assert found.ci_low < alone.ci_low
    assert found.ci_high == pytest.approx(-0.05 + 2.0739 * math.sqrt(0.000681818), abs=1e-5)


def test_more_failures_like_the_worst_lower_the_lower_end():
    # 10 cases of one site: nine of 0 and one of -0.5, mean -0.05. Deviations: 9 · 0.05² + 0.45² =
    # 0.225, times 10/9 = 0.25; the worst one is 0.45 · √(10/9) = 0.474342 below the mean. With two
    # more of it: squares 0.25 + 2 · 0.225 = 0.7, their mean -0.948683 / 12, variance
    # (0.7 - 0.9 / 12) / 11 = 0.0568182, of the mean a tenth. The mean moves by -0.948683 / 12.
    values = np.array([0.0] * 9 + [-0.5])
    half = stats.t.ppf(0.975, 11) * math.sqrt(0.00568182)

    low = low_with_failures(-0.05, site_spreads([values]), level=0.95)

    assert low == pytest.approx(-0.05 - 0.948683 / 12 - half, abs=1e-6)


def test_without_a_case_the_worst_is_as_far_out_as_it_may_be():
    # Nine equal values and one other: none can lie further out, so that the bound is reached.
    known, told = site_spreads([np.array([0.0] * 9 + [-0.5])])[0], worst_spread(10, 0.5 / 10**0.5)

    assert (known.n, known.sd) == (told.n, pytest.approx(told.sd))
    assert told.worst == pytest.approx(known.worst)


def test_equal_differences_stay_where_they_are():
    found = difference_for_these_sites(sites(a=[0.25] * 9), seed=0)

    assert (found.ci_low, found.ci_high, found.low_with_failures) == (0.25, 0.25, 0.25)


def test_few_cases_give_no_interval():
    found = difference_for_these_sites(sites(a=[0.1, 0.2, 0.3]), seed=0)

    assert (found.ci_low, found.low_with_failures) == (None, None)
    assert "3 cases are too few" in found.reason


def test_new_models_add_the_variance_between_seeds():
    # Seeds with means m - 0.02, m - 0.01, … m + 0.02: variance 0.00025, of their mean 0.00005.
    # Nine cases 0.4, 0.5, 0.6, … of one site: variance 9/8 · 0.02/3 = 0.0075, of their mean
    # 0.00083333. SE √0.00088333 = 0.0297209. Satterthwaite:
    # 0.00088333² / (0.00005² / 4 + 0.00083333² / 8) = 8.9255.
    # t(8.9255 df, 97.5 %) lies between those of 8 df, 2.3060, and 9 df, 2.2622.
    by_seed = {
        seed: sites(a=[value + 0.01 * (seed - 2) for value in (0.4, 0.5, 0.6) * 3])
        for seed in range(5)
    }

    estimate = new_models(by_seed)

    assert estimate.mean == pytest.approx(0.5)
    half = (estimate.ci_high - estimate.ci_low) / 2
    assert 2.2622 * 0.0297209 < half < 2.3060 * 0.0297209
    assert estimate.low_with_failures < estimate.ci_low


def test_new_models_are_refused_below_five_seeds():
    estimate = new_models({seed: sites(a=[0.4, 0.6] * 4) for seed in range(4)})

    assert estimate.mean == pytest.approx(0.5)
    assert estimate.ci_low is None
    assert "4 seeds are too few" in estimate.reason
    assert new_models({}).mean is None


def test_new_models_without_any_difference_have_no_width():
    estimate = new_models({seed: sites(a=[0.5] * 8) for seed in range(5)})

    assert (estimate.ci_low, estimate.ci_high) == (0.5, 0.5)


def test_new_models_need_two_cases_a_site():
    estimate = new_models({seed: sites(a=[0.5]) for seed in range(5)})

    assert estimate.ci_low is None
    assert "only one case" in estimate.reason
