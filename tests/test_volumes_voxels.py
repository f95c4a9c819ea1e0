"""Which intensities and label values are accepted."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.errors import VolumeError
from segfed.volumes.voxels import check_finite, label_voxels


def label_with(value: float, dtype: str) -> np.ndarray:
    """One voxel of a value at (1, 2, 3), 0 elsewhere."""
    voxels = np.zeros((3, 4, 5), dtype=dtype)
    voxels[1, 2, 3] = value
    return voxels


def test_uint8_labels_come_back_without_a_copy():
    voxels = label_with(3, "uint8")

    assert label_voxels(voxels, name="a") is voxels


@pytest.mark.parametrize("stored", ["bool", "int16", "uint16", "int64", "float32", "float64"])
def test_whole_numbers_of_any_type_become_uint8(stored):
    label = label_voxels(label_with(1, stored), name="a")

    assert label.dtype == np.uint8
    assert label[1, 2, 3] == label.sum() == 1


@pytest.mark.parametrize(("value", "dtype"), [(255, "uint8"), (256, "int16"), (32767, "int16")])
def test_the_highest_value_decides_between_uint8_and_int16(value, dtype):
    label = label_voxels(label_with(value, "float32"), name="a")

    assert label.dtype == dtype
    assert label.max() == value


@pytest.mark.parametrize("value", [0.5, -1, np.nan, np.inf, 32768])
def test_a_value_that_no_label_can_have_is_refused_with_its_place(value):
    with pytest.raises(VolumeError) as caught:
        label_voxels(label_with(value, "float64"), name="seg.nii.gz of case 7")

    assert str(caught.value).startswith(
        f"Found the value {float(value)} at voxel (1, 2, 3) of the label seg.nii.gz of case 7; "
        "expected whole numbers from 0 to 32767. Check that"
    )


def test_finite_voxels_pass():
    check_finite(np.full((3, 4, 5), np.finfo(np.float32).max, dtype=np.float32), name="a")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_counted_and_placed(value):
    voxels = np.ones((3, 4, 5), dtype=np.float32)
    voxels[1, 2, 3] = value
    voxels[2, 0, 0] = -value

    with pytest.raises(VolumeError) as caught:
        check_finite(voxels, name="t1c.nii.gz")

    assert str(caught.value).startswith(
        "Found 2 voxel(s) that are NaN or infinite in t1c.nii.gz, the first at index (1, 2, 3); "
        "expected finite numbers. Replace them"
    )
