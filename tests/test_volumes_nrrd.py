"""NRRD as 3D Slicer writes and reads it; damaged files."""

from __future__ import annotations

import logging

import nrrd as pynrrd
import numpy as np
import pytest
import SimpleITK as sitk

from segfed.errors import GeometryError, VolumeError
from segfed.volumes import nrrd, read_grid, read_image, read_label
from tests.volumes_samples import AFFINES, OBLIQUE, SHAPE, STRAIGHT, make_grid, make_label

HEADER = """NRRD0004
type: unsigned char
dimension: 3
space: {space}
sizes: 2 3 4
space directions: {directions}
encoding: raw
space origin: (10,-20,30)

"""


def write_by_hand(path, *, space: str, directions: str = "(1,0,0) (0,1.5,0) (0,0,3)"):
    """A file that no library wrote: voxel values 0 to 23, I running fastest."""
    path.write_bytes(HEADER.format(space=space, directions=directions).encode() + bytes(range(24)))
    return path


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_what_is_written_is_read_alike_by_pynrrd_and_ourselves(tmp_path, affine):
    label, path = make_label(affine), tmp_path / "label.nrrd"

    nrrd.write(path, label.data[0], label.grid)

    by_pynrrd, header = pynrrd.read(str(path))
    np.testing.assert_array_equal(by_pynrrd, label.data[0])
    assert header["space"] == "left-posterior-superior"
    # pynrrd lists one direction a row; LPS has the first two coordinates with the other sign.
    lps = np.diag([-1, -1, 1]) @ np.array(affine)[:3]
    np.testing.assert_allclose(header["space directions"].T, lps[:, :3], atol=1e-12)
    np.testing.assert_allclose(header["space origin"], lps[:, 3], atol=1e-12)
    np.testing.assert_array_equal(read_label(path).data, label.data)
    np.testing.assert_allclose(read_grid(path).affine, affine, atol=1e-12)


@pytest.mark.parametrize(
    ("space", "first", "origin_mm"),
    [
        ("right-anterior-superior", (1, 1.5, 3), (10, -20, 30)),
        ("left-posterior-superior", (-1, -1.5, 3), (-10, 20, 30)),
    ],
)
def test_the_declared_space_decides_where_right_is(tmp_path, space, first, origin_mm):
    path = write_by_hand(tmp_path / "a.nrrd", space=space)

    grid = read_grid(path)

    np.testing.assert_allclose(np.diag(grid.affine)[:3], first)
    np.testing.assert_allclose(grid.affine[:3, 3], origin_mm)
    # Of the 24 values, I runs fastest: (i, j, k) holds i + 2 j + 6 k.
    assert read_label(path).data[0, 1, 2, 3] == 1 + 4 + 18


def test_the_same_label_gives_the_same_bytes(tmp_path):
    for name in ("a.nrrd", "b.nrrd"):
        nrrd.write(tmp_path / name, make_label().data[0], make_grid())

    assert (tmp_path / "a.nrrd").read_bytes() == (tmp_path / "b.nrrd").read_bytes()


def test_images_become_float32(tmp_path):
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) - 100
    nrrd.write(tmp_path / "a.nrrd", values, make_grid())

    volume = read_image(tmp_path / "a.nrrd")

    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data[0], values)


def test_a_file_without_a_space_is_read_with_a_warning(tmp_path, caplog):
    pynrrd.write(str(tmp_path / "a.nrrd"), make_label().data[0], {"spacings": [1, 2, 3]})

    with caplog.at_level(logging.WARNING):
        grid = read_grid(tmp_path / "a.nrrd")

    assert grid.spacing_mm == pytest.approx((1, 2, 3))
    assert "does not say how the patient lay" in caplog.text


def test_a_segmentation_with_layers_is_refused(tmp_path):
    layers = sitk.GetImageFromArray(np.zeros((9, 7, 5, 2), np.uint8), isVector=True)
    sitk.WriteImage(layers, str(tmp_path / "a.seg.nrrd"))

    with pytest.raises(VolumeError, match=r"Found 2 components .*expected one real number.*gray"):
        read_label(tmp_path / "a.seg.nrrd")


@pytest.mark.parametrize("shape", [(7, 5), (2, 9, 7, 5)])
def test_an_image_that_is_not_3d_is_refused(tmp_path, shape):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros(shape, np.uint8), isVector=False), str(tmp_path / "a.nrrd")
    )

    with pytest.raises(VolumeError, match=r"Found an image of shape .*expected one 3D image"):
        read_label(tmp_path / "a.nrrd")


def test_a_singleton_fourth_axis_is_dropped(tmp_path):
    values = make_label(STRAIGHT).data[0]
    image = sitk.GetImageFromArray(values.T[np.newaxis], isVector=False)
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))

    np.testing.assert_array_equal(read_label(tmp_path / "a.nrrd").data[0], values)


def test_damaged_files_are_refused(tmp_path):
    nrrd.write(tmp_path / "good.nrrd", make_label(OBLIQUE).data[0], make_grid())
    content = (tmp_path / "good.nrrd").read_bytes()

    for name, bad in (("short.nrrd", content[:-40]), ("text.nrrd", b"no image " * 50)):
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(
            VolumeError, match=rf"Cannot read .*{name} \({len(bad)} bytes\) as NRRD: .*Copy the"
        ):
            read_label(tmp_path / name)


def test_a_sheared_file_is_refused(tmp_path):
    path = write_by_hand(
        tmp_path / "a.nrrd",
        space="right-anterior-superior",
        directions="(1,0,0) (0,1.5,0) (0,0.6,3)",
    )

    with pytest.raises(GeometryError, match=r"a\.nrrd: Found voxel axes that are .*Resample"):
        read_grid(path)


@pytest.mark.parametrize(
    "field", ["data file: {}", "DataFile: {}", "data file:{}", "datafile: LIST"]
)
def test_a_header_that_names_other_files_is_refused_unread(tmp_path, field):
    (tmp_path / "secret.raw").write_bytes(bytes(range(24)))
    header = HEADER.format(space="left-posterior-superior", directions="(1,0,0) (0,1,0) (0,0,3)")
    path = tmp_path / "label.nrrd"
    path.write_text(header.strip() + "\n" + field.format(tmp_path / "secret.raw") + "\n\n")

    for read in (read_grid, read_label):
        with pytest.raises(VolumeError, match=r"expected the voxels in the file itself"):
            read(path)
