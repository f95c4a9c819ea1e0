"""Updates as whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segfed.errors import PrivacyError
from segfed.privacy import FixedPoint, clip, euclidean_norm

FIXED = FixedPoint(clip_norm=4.0, max_count=1000, n_sites=4)


def update(value=1.0):
    """Two arrays of floats, one without dimensions, and one of whole numbers."""
    return {
        "a": np.full((2, 3), value, np.float32),
        "b": np.array(value, np.float32),
        "n": np.array([1, -1], np.int64),
    }


def test_the_scale_is_the_largest_power_of_two_whose_sums_stay_below_two_to_the_62():
    # 4 x 1000 x 4 = 16000 lies between 2^13 and 2^14: 2^62 / 2^14 = 2^48.
    assert FIXED.scale == 2.0**48


def test_one_update_comes_back_as_it_was():
    found = FIXED.decode(FIXED.encode(update(-0.3), count=7), count=7)

    for name, array in update(-0.3).items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, atol=1e-12)


@given(st.lists(st.integers(1, 1000), min_size=4, max_size=4), st.integers(0, 2**32))
def test_a_sum_decodes_to_the_weighted_mean(counts, seed):
    rng = np.random.default_rng(seed)
    updates = [{"w": rng.normal(size=9).astype(np.float32) / 9} for _ in counts]
    encoded = [
        FIXED.encode(item, count=count)["w"] for item, count in zip(updates, counts, strict=True)
    ]

    found = FIXED.decode({"w": np.sum(encoded, axis=0, dtype=np.uint64)}, count=sum(counts))["w"]

    # Each of four numbers was rounded to 2^-48.
    expected = np.average([item["w"].astype(np.float64) for item in updates], 0, counts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("value", "count"), [(1.9, 1), (np.nan, 1), (np.inf, 1), (0.1, 1001), (0.1, 0)]
)
def test_what_could_overflow_the_sum_is_not_encoded(value, count):
    # Seven times 1.9² and twice 1²: the norm is 5.2.
    with pytest.raises(PrivacyError, match="Clip it first"):
        FIXED.encode(update(value), count=count)


def test_a_sum_that_no_clipped_updates_have_is_refused():
    numbers = {"w": np.array([2**62], np.uint64)}  # what is left of a mask, or an overflow

    with pytest.raises(PrivacyError, match=r"norm 1.64e\+04, expected at most the clipping norm 4"):
        FIXED.decode(numbers, count=1)  # 2^62 / 2^48


def test_clipping_shortens_to_the_norm_and_keeps_direction_and_type():
    # 3, 4 has norm 5; half of it 2.5.
    found = clip({"a": np.array([3.0], np.float32), "b": np.array(4.0, np.float32)}, norm=2.5)

    assert (found["a"][0], found["b"]) == (1.5, 2.0)
    assert found["b"].dtype == np.float32
    assert euclidean_norm(found) == 2.5


def test_a_short_update_is_not_changed():
    np.testing.assert_array_equal(clip(update(), norm=3.0)["a"], update()["a"])  # norm sqrt(9)
