"""Histograms: a merge loses nothing, quantiles are NumPy's, and rounding keeps its promise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from segfed.sites import Histogram, merged
from segfed.sites.histograms import round_digits, round_ratio

VALUES = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=30)
POSITIVE = st.floats(1e-2, 1e4)


def histogram(values: list[float]) -> Histogram:
    return Histogram.of_counts(Counter(values))


@given(values=VALUES, fraction=st.floats(0, 1))
def test_a_quantile_is_that_of_the_values_counted(values, fraction):
    # Both interpolate in floating point, in another order
    expected = pytest.approx(np.quantile(values, fraction), abs=1e-9)

    assert histogram(values).quantile(fraction) == expected


@given(first=VALUES, second=VALUES)
def test_merged_histograms_are_those_of_the_pooled_values(first, second):
    assert merged([histogram(first), histogram(second)]) == histogram(first + second)


@given(value=POSITIVE)
def test_rounding_stays_within_its_tolerance(value):
    # Half of the last of three digits, at 1.00; half of a step of 5 %; half of a doubling.
    # The thousandth is for the six digits that powers of a ratio are kept to.
    assert abs(round_digits(value, digits=3) / value - 1) <= 0.005 + 1e-9
    assert abs(round_ratio(value, ratio=1.05) / value - 1) <= 1.05**0.5 - 1 + 1e-3
    assert 2**-0.5 - 1e-3 <= round_ratio(value, ratio=2) / value <= 2**0.5 + 1e-3


@pytest.mark.parametrize("spacing_mm", [0.75, 1.0, 1.25, 5.0, 0.781])
def test_usual_spacings_are_not_moved(spacing_mm):
    assert round_digits(spacing_mm, digits=3) == spacing_mm


@pytest.mark.parametrize(
    ("values", "counts", "reason"),
    [
        ((1.0, 2.0), (1,), "expected one each"),
        ((2.0, 1.0), (1, 1), "must ascend"),
        ((1.0,), (0,), "greater than 0"),
        ((), (), "at least 1"),
    ],
)
def test_a_damaged_histogram_is_refused(values, counts, reason):
    with pytest.raises(ValidationError, match=reason):
        Histogram(values=values, counts=counts)
