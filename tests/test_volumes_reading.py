"""Reading images, channels and labels; real files from the field."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from segfed.errors import CaseError, GeometryError, VolumeError
from segfed.volumes import check_same_grid, read_channels, read_grid, read_image, read_label
from tests.volumes_samples import LPS, OBLIQUE, SHAPE, STRAIGHT, save_nifti


def constant(path, value: float, affine=OBLIQUE, dtype="int16"):
    return save_nifti(path, np.full(SHAPE, value, dtype), affine)


def test_an_image_is_float32_with_one_channel(tmp_path):
    volume = read_image(constant(tmp_path / "ct.nii.gz", -1000))

    assert volume.data.shape == (1, *SHAPE)
    assert volume.data.dtype == np.float32
    assert np.all(volume.data == -1000)


def test_channels_come_in_the_order_asked_for(tmp_path):
    paths = {name: constant(tmp_path / f"{name}.nii", v) for name, v in (("t2f", 2), ("t1c", 1))}

    volume = read_channels(paths)

    assert volume.data.shape == (2, *SHAPE)
    assert volume.data.dtype == np.float32
    assert [float(channel.max()) for channel in volume.data] == [2, 1]


def test_one_channel_alone_is_read_too(tmp_path):
    assert read_channels({"ct": constant(tmp_path / "ct.nii", 40)}).data.shape == (1, *SHAPE)


def test_every_missing_channel_is_named(tmp_path):
    there = constant(tmp_path / "t1c.nii.gz", 1)
    paths = {"t1c": there, "t2w": tmp_path / "t2w.nii.gz", "t2f": tmp_path / "t2f.nii.gz"}

    with pytest.raises(
        CaseError,
        match=r"no file for channel t2w \(.*t2w\.nii\.gz\), t2f \(.*t2f\.nii\.gz\); expected .*Add",
    ):
        read_channels(paths)


def test_no_channel_at_all_is_refused():
    with pytest.raises(CaseError, match="none was asked for"):
        read_channels({})


def test_the_channel_on_another_grid_is_named(tmp_path):
    paths = {
        "t1c": constant(tmp_path / "t1c.nii.gz", 1, STRAIGHT),
        "t2w": constant(tmp_path / "t2w.nii.gz", 1, STRAIGHT),
        "t2f": constant(tmp_path / "t2f.nii.gz", 1, LPS),
    }

    with pytest.raises(
        GeometryError,
        match=r"channel t2f \(.*t2f\.nii\.gz\) is on another grid than the channel t1c",
    ):
        read_channels(paths)


@pytest.mark.parametrize("read", [read_image, read_label, read_grid])
def test_a_missing_file_is_refused(tmp_path, read):
    with pytest.raises(VolumeError, match=r"no file at .*a\.nii\.gz; expected .*Check the path"):
        read(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("read", [read_image, read_label, read_grid])
def test_an_empty_file_is_refused(tmp_path, read):
    (tmp_path / "a.nii.gz").touch()

    with pytest.raises(VolumeError, match=r"empty file at .*a\.nii\.gz \(0 bytes\); .*Copy the"):
        read(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_an_image_with_voxels_that_are_not_finite_as_float32_is_refused(tmp_path, value):
    voxels = np.zeros(SHAPE, dtype=np.float64)
    voxels[4, 0, 2] = value

    with pytest.raises(VolumeError, match=r"Found 1 voxel.*a\.nii\.gz, .* index \(4, 0, 2\)"):
        read_image(save_nifti(tmp_path / "a.nii.gz", voxels))


def test_a_label_with_a_fraction_is_refused_with_file_and_voxel(tmp_path):
    voxels = np.zeros(SHAPE, dtype=np.float32)
    voxels[4, 0, 2] = 1.5

    with pytest.raises(VolumeError, match=r"1\.5 at voxel \(4, 0, 2\) of the label .*seg\.nii\.gz"):
        read_label(save_nifti(tmp_path / "seg.nii.gz", voxels))


def by_itk(path) -> np.ndarray:
    """Voxels (I, J, K) as an independent reader gives them."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose(2, 1, 0)


def test_a_real_brats_case_has_one_lps_grid_and_whole_label_values(shared_data):
    folder = shared_data("brats_case")
    paths = {name: folder / f"BraTS-GLI-00000-000-{name}.nii.gz" for name in ("t1c", "t2W")}
    seg_path = folder / "BraTS-GLI-00000-000-seg.nii.gz"

    image, label = read_channels(paths), read_label(seg_path)

    # The label's file says so by its qform alone, the images' by both forms.
    check_same_grid(label.grid, image.grid, name="label", reference="image")
    assert image.grid.describe() == (
        "shape 240 x 240 x 155, spacing 1 x 1 x 1 mm, orientation LPS, "
        "first voxel at (0, 239, 0) mm"
    )
    assert nib.load(seg_path).get_data_dtype() == np.float32
    assert label.data.dtype == np.uint8
    np.testing.assert_array_equal(label.data[0], by_itk(seg_path))
    np.testing.assert_array_equal(image.data[1], by_itk(paths["t2W"]))


def test_a_real_kits_mask_of_16_bits_is_read_as_uint8_with_ipl_axes(shared_data):
    path = shared_data("kits19_labels") / "data" / "case_00039" / "segmentation.nii.gz"

    label = read_label(path)

    assert nib.load(path).get_data_dtype() == np.uint16
    assert label.data.dtype == np.uint8
    assert label.grid.orientation == "IPL"
    assert label.grid.shape == (90, 512, 512)
    np.testing.assert_array_equal(label.data[0], by_itk(path))


def test_real_hippocampus_images_and_labels_share_their_grid(shared_data):
    folder = shared_data("hippocampus")

    for path in sorted((folder / "labelsTr").glob("hippocampus_00*.nii.gz")):
        label, image = read_label(path), read_image(folder / "imagesTr" / path.name)
        check_same_grid(label.grid, image.grid, name="label", reference="image")
        assert label.data.dtype == np.uint8
        assert np.unique(label.data).tolist() == [0, 1, 2]
        assert label.grid.spacing_mm == (1, 1, 1)
        assert label.grid.orientation == "RAS"
