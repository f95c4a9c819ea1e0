"""Writing images and labels, whole or not at all."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from segfed.errors import GeometryError, VolumeError
from segfed.volumes import (
    VOLUME_SUFFIXES,
    Volume,
    nifti,
    read_image,
    read_label,
    write_image,
    write_label,
)
from tests.volumes_samples import AFFINES, SHAPE, make_grid, make_image, make_label


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_label_that_was_written_is_read_back(tmp_path, affine, suffix):
    label = make_label(affine)

    write_label(label, tmp_path / f"a{suffix}")

    found = read_label(tmp_path / f"a{suffix}")
    assert found.data.dtype == np.uint8
    np.testing.assert_array_equal(found.data, label.data)
    assert found.grid.matches(label.grid, tolerance_mm=1e-4)  # NIfTI stores float32


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_a_temporary_label_has_the_same_bytes(tmp_path, suffix):
    write_label(make_label(), tmp_path / f"a{suffix}")
    write_label(make_label(), tmp_path / f"b{suffix}", durable=False)

    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_an_image_that_was_written_is_read_back(tmp_path, suffix):
    image = make_image()

    write_image(image, tmp_path / f"a{suffix}")

    found = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.data, image.data)
    assert found.grid.matches(image.grid, tolerance_mm=1e-4)


@pytest.mark.parametrize(
    ("dtype", "stored"), [("int16", "int16"), ("float64", "float32"), ("float32", "float32")]
)
def test_images_keep_whole_numbers_and_round_others_to_float32(tmp_path, dtype, stored):
    write_image(Volume(np.ones((1, *SHAPE), dtype), make_grid()), tmp_path / "a.nii")

    assert nib.load(tmp_path / "a.nii").get_data_dtype() == stored


@pytest.mark.parametrize(("highest", "stored"), [(3, "uint8"), (300, "int16")])
def test_labels_are_stored_as_the_smallest_type_that_holds_them(tmp_path, highest, stored):
    voxels = np.zeros((1, *SHAPE), dtype=np.int64)
    voxels[0, 4, 0, 2] = highest

    write_label(Volume(voxels, make_grid()), tmp_path / "a.nii.gz")

    assert nib.load(tmp_path / "a.nii.gz").get_data_dtype() == stored
    assert read_label(tmp_path / "a.nii.gz").data[0, 4, 0, 2] == highest


@pytest.mark.parametrize("write", [write_image, write_label])
def test_several_channels_are_refused(tmp_path, write):
    volume = Volume(np.zeros((4, *SHAPE), np.uint8), make_grid())

    with pytest.raises(
        GeometryError, match=r"Found 4 channels .*a\.nii; expected one.*file of its"
    ):
        write(volume, tmp_path / "a.nii")


def test_bad_voxels_leave_no_file(tmp_path):
    volume = Volume(np.full((1, *SHAPE), np.nan), make_grid())

    for write in (write_image, write_label):
        with pytest.raises(VolumeError):
            write(volume, tmp_path / "a.nii.gz")

    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_breaks_off_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    write_label(make_label(), path)
    before = path.read_bytes()

    def break_off(temporary, *_):
        temporary.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(nifti, "write", break_off)
    with pytest.raises(OSError, match="disk full"):
        write_label(make_label(), path)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
