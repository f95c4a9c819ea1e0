"""Overlap metrics, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from segfed.evaluation import dice, sensitivity, volume_difference_mm3

masks = arrays(bool, (4, 3, 2))


def bar(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((10, 3, 2), dtype=bool)
    mask[start:stop, 1, 1] = True
    return mask


def test_two_overlapping_bars():
    # 4 and 6 voxels with 3 in common.
    assert dice(bar(0, 4), bar(1, 7)) == pytest.approx(2 * 3 / (4 + 6))
    assert sensitivity(bar(0, 4), bar(1, 7)) == pytest.approx(3 / 4)
    # 2 voxels of 1.5 mm³ too many.
    assert volume_difference_mm3(bar(0, 4), bar(1, 7), voxel_mm3=1.5) == pytest.approx(3.0)


def test_empty_masks():
    assert math.isnan(dice(bar(0, 0), bar(0, 0)))
    assert dice(bar(0, 2), bar(0, 0)) == 0
    assert dice(bar(0, 0), bar(0, 2)) == 0
    assert math.isnan(sensitivity(bar(0, 0), bar(0, 2)))
    assert volume_difference_mm3(bar(0, 0), bar(0, 0), voxel_mm3=1.5) == 0


@settings(max_examples=50, deadline=None)
@given(first=masks, second=masks)
def test_laws_of_dice(first, second):
    value = dice(first, second)
    if math.isnan(value):
        assert not first.any()
        assert not second.any()
        return
    assert 0 <= value <= 1
    assert value == dice(second, first), "symmetric"
    assert (value == 1) == np.array_equal(first, second)
    assert value == dice(first[::-1], second[::-1]), "blind to position"
