"""NIfTI as other programs write and read it; damaged files."""

from __future__ import annotations

import gzip
import logging
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from segfed.errors import GeometryError, VolumeError
from segfed.volumes import nifti, read_grid, read_image, read_label
from tests.volumes_samples import (
    AFFINES,
    OBLIQUE,
    OBLIQUE_DIRECTION,
    OBLIQUE_SPACING_MM,
    SHAPE,
    STRAIGHT,
    make_grid,
    make_label,
    save_nifti,
)


@pytest.fixture
def content(tmp_path) -> bytes:
    """The bytes of a good, compressed file; random voxels, so that it is more than a header."""
    voxels = np.random.default_rng(0).integers(0, 255, (30, 20, 10), dtype=np.uint8)
    return save_nifti(tmp_path / "good.nii.gz", voxels).read_bytes()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_what_is_written_is_read_alike_by_nibabel_and_simpleitk(tmp_path, affine, suffix):
    voxels, path = make_label(affine).data[0], tmp_path / f"label{suffix}"

    nifti.write(path, voxels, make_grid(affine))

    by_nibabel, by_itk = nib.load(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(np.asarray(by_nibabel.dataobj), voxels)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(by_itk), voxels.transpose(2, 1, 0))
    # ITK's world is LPS: the first two rows change their sign. Headers hold float32.
    lps = np.diag([-1, -1, 1]) @ np.array(affine)[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    np.testing.assert_allclose(by_nibabel.affine, affine, atol=1e-5)
    np.testing.assert_allclose(by_itk.GetSpacing(), spacing, atol=1e-5)
    np.testing.assert_allclose(by_itk.GetOrigin(), lps[:, 3], atol=1e-5)
    np.testing.assert_allclose(
        np.reshape(by_itk.GetDirection(), (3, 3)), lps[:, :3] / spacing, atol=1e-6
    )


def test_an_oblique_grid_is_written_with_the_direction_worked_out_by_hand(tmp_path):
    nifti.write(tmp_path / "a.nii", make_label().data[0], make_grid(OBLIQUE))

    image = sitk.ReadImage(str(tmp_path / "a.nii"))

    direction = np.diag([-1, -1, 1]) @ OBLIQUE_DIRECTION
    np.testing.assert_allclose(image.GetDirection(), direction.ravel(), atol=1e-6)
    assert image.GetSpacing() == pytest.approx(OBLIQUE_SPACING_MM, abs=1e-6)
    assert image.GetOrigin() == pytest.approx((-10, 20, 30))


def test_sform_and_qform_are_both_set_and_nothing_is_scaled(tmp_path):
    nifti.write(tmp_path / "a.nii", make_label().data[0], make_grid(OBLIQUE))

    header = nib.load(tmp_path / "a.nii").header
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)

    assert (sform_code, qform_code, header.get_xyzt_units()[0]) == (1, 1, "mm")
    np.testing.assert_allclose(sform, OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(qform, OBLIQUE, atol=1e-5)
    # Bytes 112 and 116 of the file itself (nibabel hides them): scl_slope and scl_inter.
    raw = (tmp_path / "a.nii").read_bytes()
    assert np.frombuffer(raw[112:120], "<f4").tolist() == [1, 0]


def test_the_same_label_gives_the_same_bytes_whenever_it_is_written(tmp_path, monkeypatch):
    first, second = tmp_path / "first.nii.gz", tmp_path / "second.nii.gz"

    nifti.write(first, make_label().data[0], make_grid())
    monkeypatch.setattr("time.time", lambda: 2e9)
    nifti.write(second, make_label().data[0], make_grid())

    assert first.read_bytes() == second.read_bytes()


def test_a_large_label_is_read_into_memory_once(tmp_path):
    voxels = np.zeros((256, 128, 256), dtype=np.uint8)  # 8 MiB
    path = save_nifti(tmp_path / "large.nii.gz", voxels)

    tracemalloc.start()
    read_label(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # The voxels themselves and a few blocks of 256 KiB: no second copy, which would make 16 MiB.
    assert peak < 1.5 * voxels.nbytes


def test_scaled_intensities_are_unscaled(tmp_path):
    # dcm2niix writes CT so: HU = stored * 1 - 1024, here with a slope of 2.
    stored = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image = nib.Nifti1Image(stored, np.array(STRAIGHT))
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([2, -1024], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)

    volume = read_image(tmp_path / "a.nii")

    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data[0], stored * 2.0 - 1024)


def test_files_of_the_other_byte_order_are_read(tmp_path):
    values = make_label().data[0]
    header = nib.Nifti1Header(endianness=">")
    image = nib.Nifti1Image(values.astype(">i2"), np.array(OBLIQUE), header)
    nib.save(image, tmp_path / "big.nii.gz")

    np.testing.assert_array_equal(read_label(tmp_path / "big.nii.gz").data[0], values)
    assert read_image(tmp_path / "big.nii.gz").data.dtype.isnative


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_singleton_axes_after_the_third_are_dropped(tmp_path, extra):
    values = make_label().data[0]
    path = save_nifti(tmp_path / "a.nii.gz", values.reshape(*SHAPE, *extra))

    np.testing.assert_array_equal(read_label(path).data[0], values)
    assert read_grid(path).shape == SHAPE


@pytest.mark.parametrize("shape", [(5, 7, 9, 2), (5, 7), (5, 7, 9, 1, 3)])
def test_an_image_that_is_not_3d_is_refused(tmp_path, shape):
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros(shape, np.uint8))

    with pytest.raises(VolumeError, match=r"Found an image of shape .*expected one 3D.*Save each"):
        read_image(path)


@pytest.mark.parametrize("dtype", ["complex64", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_colour_images_are_refused(tmp_path, dtype):
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros(SHAPE, dtype))

    with pytest.raises(VolumeError, match=r"Found voxels of type .*expected one real number.*gray"):
        read_image(path)


def test_a_file_without_orientation_is_read_with_a_warning(tmp_path, caplog):
    image = nib.Nifti1Image(make_label().data[0], None)
    image.header.set_zooms((1, 2, 3))
    nib.save(image, tmp_path / "a.nii.gz")

    with caplog.at_level(logging.WARNING):
        grid = read_grid(tmp_path / "a.nii.gz")

    assert grid.spacing_mm == pytest.approx((1, 2, 3))
    assert "does not say how the patient lay" in caplog.text


def test_a_damaged_orientation_is_refused_with_the_file(tmp_path, content):
    raw = bytearray(gzip.decompress(content))
    raw[280:296] = np.zeros(4, "<f4").tobytes()  # srow_x: no voxel axis leads to the right
    (tmp_path / "case_7.nii").write_bytes(raw)

    with pytest.raises(GeometryError, match=r"case_7\.nii: Found the affine .* is singular"):
        read_grid(tmp_path / "case_7.nii")


def damaged(good: bytes, kind: str) -> bytes:
    """What transfers, mistaken renames and failing disks leave."""
    middle = len(good) // 2
    return {
        "truncated": good[:middle],
        "without its end": good[:-4],
        "flipped bit": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "header only": gzip.compress(gzip.decompress(good)[:352]),
        "not compressed": gzip.decompress(good),
        "plain text": b"The image is on the other disk.\n" * 20,
        "compressed text": gzip.compress(b"The image is on the other disk.\n" * 20),
        "absurd shape": gzip.compress(
            gzip.decompress(good)[:42] + b"\xff\x7f" * 3 + gzip.decompress(good)[48:]
        ),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "ended before the end-of-stream marker"),
        ("without its end", "ended before the end-of-stream marker"),
        ("flipped bit", "CRC check failed|invalid|incorrect"),
        ("header only", "Expected 6000 bytes, got 0 bytes"),
        ("not compressed", "Not a gzipped file"),
        ("plain text", r"Not a gzipped file \(b'Th'\)"),
        ("compressed text", "begins with b'The '"),
        ("absurd shape", "MemoryError"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_size_and_reason(tmp_path, content, kind, reason):
    path = tmp_path / "case_7.nii.gz"
    path.write_bytes(damaged(content, kind))
    size = path.stat().st_size

    with pytest.raises(
        VolumeError,
        match=rf"Cannot read .*case_7\.nii\.gz \({size} bytes\) as NIfTI: .*({reason}).*"
        r"Expected a complete NIfTI-1 file.*Copy the file again",
    ):
        read_label(path)


def test_a_truncated_file_that_is_not_compressed_is_refused(tmp_path, content):
    (tmp_path / "a.nii").write_bytes(gzip.decompress(content)[:-50])

    with pytest.raises(VolumeError, match=r"Expected 6000 bytes, got 5950 bytes"):
        read_image(tmp_path / "a.nii")


def bomb(path, *, offset: float, extension: bytes = b"", after: int = 0):
    """A header for one voxel, what follows it, and zeros that gzip makes tiny."""
    header = bytearray(nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).to_bytes()[:352])
    header[108:112] = struct.pack("<f", offset)
    header[348] = bool(extension)
    with gzip.open(path, "wb") as stream:
        stream.write(bytes(header) + extension + b"\0")
        for _ in range(after // 2**20):
            stream.write(bytes(2**20))
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"offset": 352, "after": 2**25}, "bytes follow its voxels"),
        ({"offset": 2.0**31}, "voxels begin at byte"),
        ({"offset": float("nan")}, "voxels begin at byte"),
        # Sizes of an extension: 2 GB, and one that nibabel takes for "all that is left".
        ({"offset": 400, "extension": struct.pack("<ii", 2**31 - 16, 0)}, "bytes of text"),
        ({"offset": 400, "extension": struct.pack("<ii", -16, 0)}, "bytes of text"),
    ],
)
def test_a_small_file_cannot_unpack_to_fill_the_memory(tmp_path, content, reason):
    path = bomb(tmp_path / "bomb.nii.gz", **content)

    with pytest.raises(VolumeError, match=reason):
        read_label(path)


def test_a_file_with_text_before_its_voxels_is_read(tmp_path):
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"drawn twice" * 1000))
    nib.save(image, tmp_path / "a.nii.gz")

    assert read_label(tmp_path / "a.nii.gz").data.all()
