"""Slicer's numbered segments against the values of a task."""

from __future__ import annotations

import numpy as np
import pytest

from label_app.segments import segments_present, task_label
from segfed.errors import LabelError
from segfed.sites import load_task
from segfed.volumes import Grid, Volume

KIDNEY = load_task("kidney_tumor")  # kidney 1, tumor 2, cyst 3


def volume(*values: int) -> Volume:
    data = np.array(values, dtype=np.uint8).reshape(1, -1, 1, 1)
    return Volume(data, Grid((len(values), 1, 1), np.eye(4)))


def test_only_segments_with_voxels_are_named():
    assert segments_present(volume(0, 3, 1, 3), KIDNEY) == {"kidney": 1, "cyst": 3}


def test_segments_are_told_apart_by_name_whatever_their_number():
    info = [{"name": "Tumor", "idx": 1}, {"name": "kidney", "idx": 2}, {"name": "notes", "idx": 3}]

    label = task_label(volume(0, 1, 2, 1), info, KIDNEY)

    assert label.data.ravel().tolist() == [0, 2, 1, 2]


def test_without_a_list_the_values_are_the_tasks_own():
    assert task_label(volume(0, 3), None, KIDNEY).data.ravel().tolist() == [0, 3]


def test_an_unknown_segment_with_voxels_is_named():
    with pytest.raises(LabelError, match=r"'Segment_1'.*kidney, tumor, cyst.*Rename"):
        task_label(volume(0, 1), [{"name": "Segment_1", "idx": 1}], KIDNEY)


def test_voxels_that_no_segment_owns_are_refused():
    with pytest.raises(LabelError, match="'value 2'"):
        task_label(volume(1, 2), [{"name": "kidney", "idx": 1}], KIDNEY)


@pytest.mark.parametrize(
    "nonsense", ["kidney", [1], [{"name": "kidney"}], [{"name": "kidney", "idx": float("inf")}], 5]
)
def test_a_list_that_cannot_be_read_is_refused(nonsense):
    with pytest.raises(LabelError, match="expected a list"):
        task_label(volume(1), nonsense, KIDNEY)
