"""A structure is exchanged in a label, and the reader's clicks always hold."""

from __future__ import annotations

import numpy as np
import pytest

from label_app.refinement import click_target, with_clicked_voxels, with_structure
from segfed.engine import Clicks
from segfed.errors import WeightsError
from tests.engine_samples import sample_plan


def test_what_was_clicked_holds_whatever_the_network_says():
    mask = np.array([[[True, False, True]]])

    held = with_clicked_voxels(mask, Clicks(((0, 0, 1),), ((0, 0, 2),)))

    assert held.tolist() == [[[True, True, False]]]
    assert mask.tolist() == [[[True, False, True]]]


def test_only_one_structure_is_exchanged():
    label = np.array([[[0, 1, 2, 2, 1]]], dtype=np.uint8)
    mask = np.array([[[False, True, True, False, False]]])

    # The voxel that 2 gave up belongs to nothing; the one that it took no longer to 1.
    assert with_structure(label, mask, value=2).tolist() == [[[0, 2, 2, 0, 1]]]
    assert with_structure(None, mask, value=2).tolist() == [[[0, 2, 2, 0, 0]]]
    assert label.tolist() == [[[0, 1, 2, 2, 1]]]


def test_an_answer_without_a_voxel_leaves_the_label_as_slicer_does():
    label = np.array([[[0, 1, 2]]], dtype=np.uint8)
    nothing = np.zeros(label.shape, dtype=bool)

    assert with_structure(label, nothing, value=2).tolist() == label.tolist()
    assert with_structure(None, nothing, value=2).tolist() == [[[0, 0, 0]]]


def test_a_model_without_clicks_cannot_help():
    assert click_target(sample_plan(click_label="core")) == ("core", 2)
    with pytest.raises(WeightsError, match="--clicks"):
        click_target(sample_plan())
