"""Editing effort, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from segfed.evaluation import added_path_length, measure_effort

masks = arrays(bool, (5, 4, 3))


def plate(start: int, stop: int) -> np.ndarray:
    """A plate in one slice: rows start to stop - 1, four columns."""
    mask = np.zeros((9, 8, 3), dtype=bool)
    mask[start:stop, 2:6, 1] = True
    return mask


def test_a_plate_grown_by_one_row():
    # From 4 x 4 to 5 x 4 voxels of 0.5 mm³: one row of 4 added. The contour of the new plate has
    # 5 · 4 - 3 · 2 = 14 voxels, the old one's 4 · 4 - 2 · 2 = 12. All but the new row's 4 voxels
    # and the old edge's two inner voxels were there; those inner two are no contour any more.
    effort = measure_effort(plate(2, 7), plate(2, 6), voxel_mm3=0.5)

    assert effort.added_mm3 == pytest.approx(2.0)
    assert effort.removed_mm3 == 0
    assert effort.changed_fraction == pytest.approx(4 / 20)
    assert effort.added_path_length == 4


def test_a_row_taken_away_leaves_two_contour_voxels_to_draw():
    # The other way round, the plate's new edge has 4 voxels, of which the 2 outer ones were
    # contour already.
    effort = measure_effort(plate(2, 6), plate(2, 7), voxel_mm3=0.5)

    assert effort.removed_mm3 == pytest.approx(2.0)
    assert effort.added_mm3 == 0
    assert effort.added_path_length == 2


def test_an_unchanged_proposal_costs_nothing():
    effort = measure_effort(plate(2, 6), plate(2, 6), voxel_mm3=0.5)

    assert (effort.added_mm3, effort.removed_mm3, effort.changed_fraction) == (0, 0, 0)
    assert effort.added_path_length == 0


def test_empty_masks():
    empty = np.zeros((9, 8, 3), dtype=bool)

    assert math.isnan(measure_effort(empty, empty, voxel_mm3=0.5).changed_fraction)
    assert measure_effort(plate(2, 6), empty, voxel_mm3=0.5).changed_fraction == 1
    assert added_path_length(plate(2, 6), empty) == 12
    assert added_path_length(empty, plate(2, 6)) == 0


@settings(max_examples=50, deadline=None)
@given(submitted=masks, proposal=masks)
def test_laws_of_effort(submitted, proposal):
    there = measure_effort(submitted, proposal, voxel_mm3=2.0)
    back = measure_effort(proposal, submitted, voxel_mm3=2.0)

    assert there.added_mm3 == back.removed_mm3
    grown = 2.0 * (np.count_nonzero(submitted) - np.count_nonzero(proposal))
    assert there.added_mm3 - there.removed_mm3 == grown
    padded = added_path_length(np.pad(submitted, 2), np.pad(proposal, 2))
    assert there.added_path_length == padded, "blind to background"
