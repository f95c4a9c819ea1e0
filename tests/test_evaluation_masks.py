"""Structures and boxes, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.errors import GeometryError
from segfed.evaluation.masks import bounding_box, check_masks, check_spacing, structure_mask


def test_a_structure_is_the_union_of_its_label_values():
    label = np.array([[[0, 1, 2, 3]]], dtype=np.uint8)

    assert structure_mask(label, (1, 3)).tolist() == [[[False, True, False, True]]]
    assert structure_mask(label, ()).sum() == 0


def test_the_box_is_tight_and_its_margin_stops_at_the_edge():
    mask = np.zeros((9, 7, 5), dtype=bool)
    mask[1, 3, 4] = mask[4, 5, 2] = True

    assert bounding_box(mask) == (slice(1, 5), slice(3, 6), slice(2, 5))
    widened = bounding_box(mask, margin_voxels=2)
    assert mask[widened].shape == (7, 6, 5)  # 0..6, 1..6 (7 lies outside), 0..4


def test_nothing_has_no_box():
    assert bounding_box(np.zeros((3, 4, 5), dtype=bool)) is None


def test_a_reader_is_told_which_shapes_differ():
    first, second = np.zeros((2, 3, 4), dtype=bool), np.zeros((2, 4, 3), dtype=bool)

    with pytest.raises(GeometryError, match=r"\(2, 3, 4\) and \(2, 4, 3\); resample"):
        check_masks(first, second)


def test_a_label_is_no_mask():
    label = np.zeros((2, 3, 4), dtype=np.uint8)

    with pytest.raises(TypeError, match="predicted must be a boolean mask, got dtype uint8"):
        check_masks(label == 1, label)


@pytest.mark.parametrize("spacing_mm", [(1.0, 0.0, 1.0), (1.0, 1.0), (1.0, float("nan"), 1.0)])
def test_a_spacing_is_three_positive_numbers(spacing_mm):
    with pytest.raises(ValueError, match="three positive numbers"):
        check_spacing(spacing_mm)
