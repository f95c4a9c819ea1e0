"""Matrix, gains and the gap, worked out by hand on three sites."""

from __future__ import annotations

import math

import pytest

from segfed.evaluation import (
    gain,
    gap_share,
    generalizability,
    local_performance,
    site_means,
    train_test_matrix,
    worst_site,
)


def cases(value: float, n: int = 6) -> dict[str, float]:
    """Scores of n cases with a given mean."""
    return {f"case_{i}": value + (0.01 if i % 2 else -0.01) for i in range(n)}


MATRIX = train_test_matrix(
    {
        "a": {"a": cases(0.9), "b": cases(0.5), "c": cases(0.7), "external": cases(0.1)},
        "b": {"a": cases(0.6), "b": cases(0.8), "c": cases(0.4), "external": cases(0.1)},
        "c": {"a": cases(0.3), "b": cases(0.5), "c": cases(0.7), "external": cases(0.1)},
        "global": {"a": cases(0.9), "b": cases(0.9), "c": cases(0.9), "external": cases(0.8)},
    }
)


def test_local_performance_is_the_diagonal():
    assert local_performance(MATRIX) == pytest.approx((0.9 + 0.8 + 0.7) / 3)


def test_generalizability_is_the_rest_of_the_rows_of_participants():
    # Rows: (0.5 + 0.7) / 2, (0.6 + 0.4) / 2, (0.3 + 0.5) / 2. The external site and the global
    # model are no part of it.
    assert generalizability(MATRIX) == pytest.approx((0.6 + 0.5 + 0.4) / 3)
    assert generalizability(MATRIX, test_sites=("a", "b")) == pytest.approx((0.5 + 0.6) / 2)


def test_one_site_has_nothing_to_generalize_to():
    assert math.isnan(generalizability(train_test_matrix({"a": {"a": cases(0.9)}})))


def test_the_gain_is_in_points_and_relative():
    # EXAM's form: from 0.6 to 0.9 is +0.3 points, +50 %.
    found = gain(0.9, 0.6)

    assert (found.points, found.relative) == (pytest.approx(0.3), pytest.approx(0.5))
    assert math.isnan(gain(0.9, 0.0).relative)


def test_a_cell_below_the_minimum_n_is_shown_and_not_ranked():
    cells = site_means({"few": cases(0.1, n=4), "many": cases(0.5), "none": {"x": math.nan}})

    assert cells["few"].mean == pytest.approx(0.1)
    assert not cells["few"].is_ranked
    assert cells["many"].is_ranked
    assert (cells["none"].mean, cells["none"].n, cells["none"].n_nan) == (None, 0, 1)
    assert worst_site(cells) == "many"


def test_the_worst_site_depends_on_what_is_better():
    cells = site_means({"a": cases(3.0), "b": cases(9.0), "c": cases(3.0)})

    assert worst_site(cells) == "a"
    assert worst_site(cells, higher_is_better=False) == "b"
    assert worst_site({}) is None


def regime(base: float, spread: float) -> dict[str, dict[str, float]]:
    """Two sites of eight cases around a mean."""
    return {site: {f"case_{i}": base + spread * (i - 3.5) for i in range(8)} for site in ("a", "b")}


def test_the_share_of_the_gap_is_a_ratio_of_means():
    # From 0.6 to 0.8 pooled; federated reaches 0.75: three quarters.
    share = gap_share(regime(0.6, 0.0), regime(0.8, 0.002), regime(0.75, 0.001), seed=0)

    assert share.share == pytest.approx(0.75)
    assert share.ci_low < 0.75 < share.ci_high
    assert share.reason == ""


def test_no_share_of_a_gap_that_may_be_nothing():
    share = gap_share(regime(0.6, 0.0), regime(0.61, 0.1), regime(0.6, 0.0), seed=0)

    assert (share.share, share.ci_low, share.ci_high) == (None, None, None)
    assert "may be 0" in share.reason


def test_no_share_without_an_interval_of_the_gap():
    single = {"a": {"1": 0.5}}

    assert "has no interval" in gap_share(single, {"a": {"1": 0.9}}, single, seed=0).reason


def test_a_case_undefined_for_one_regime_is_left_out_of_both_differences():
    federated = regime(0.75, 0.001)
    pooled = regime(0.8, 0.002)
    pooled["a"]["case_0"] = math.nan
    without = [
        {
            site: {c: v for c, v in found.items() if (site, c) != ("a", "case_0")}
            for site, found in r.items()
        }
        for r in (regime(0.6, 0.0), pooled, federated)
    ]

    assert gap_share(regime(0.6, 0.0), pooled, federated, seed=0) == gap_share(*without, seed=0)
