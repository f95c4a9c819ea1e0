"""Images on their way into a site."""

from __future__ import annotations

import hashlib

import nibabel as nib
import numpy as np
import pytest

from segfed.errors import CaseError, GeometryError, VolumeError
from segfed.sites import add_case, load_site, load_task
from segfed.sites.images import hash_image, place_images
from segfed.volumes import Volume, read_image, write_image
from tests.sites_samples import SHAPE, make_grid, make_image, make_site

BRAIN = load_task("brain_tumor")


def brain_channels(folder, **changes):
    channels = {}
    for seed, channel in enumerate(BRAIN.channels):
        channels[channel] = folder / f"source-{channel}.nii.gz"
        write_image(make_image(seed), channels[channel])
    return channels | changes


def place(folder, channels, case_id="b1"):
    return place_images(
        folder, task=BRAIN, case_id=case_id, patient_id="p", split="train", channels=channels
    )


def test_a_compressed_nifti_keeps_its_bytes_and_so_its_hash(tmp_path):
    channels = brain_channels(tmp_path)

    case = place(tmp_path / "site", channels)

    assert list(case.channels) == ["t1n", "t1c", "t2w", "t2f"]
    assert case.channels["t1c"] == tmp_path / "site/images/b1.nii.gz"
    assert case.channels["t2f"] == tmp_path / "site/modalities/b1/t2f.nii.gz"
    for channel, path in case.channels.items():
        assert path.read_bytes() == channels[channel].read_bytes()


def test_text_in_a_header_stays_outside_and_the_import_can_be_repeated(tmp_path, caplog):
    source = tmp_path / "scan.nii.gz"
    image = nib.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), np.eye(4))
    image.header["descrip"] = "DOE^JANE"
    nib.save(image, source)
    channels = brain_channels(tmp_path, **dict.fromkeys(BRAIN.channels, source))

    case = place(tmp_path / "site", channels)

    assert place(tmp_path / "site", channels) == case
    stored = nib.load(case.channels["t2w"])
    assert stored.header["descrip"] == b""
    np.testing.assert_array_equal(np.asarray(stored.dataobj), np.asarray(image.dataobj))
    assert "might name the patient, in descrip" in caplog.text
    assert "DOE" not in caplog.text


def test_the_hash_of_several_channels_is_that_of_their_joined_hashes(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[0].write_bytes(b"one")
    paths[1].write_bytes(b"two")
    hashes = [hashlib.sha256(text).hexdigest() for text in (b"one", b"two")]

    assert hash_image(paths[:1]) == hashes[0]
    assert hash_image(paths) == hashlib.sha256("".join(hashes).encode()).hexdigest()


def test_other_formats_become_nifti_with_the_same_voxels_and_grid(tmp_path):
    site, image = make_site(tmp_path), make_image(seed=5)
    write_image(image, tmp_path / "scan.nrrd")

    case = add_case(
        site.folder,
        task=site.task,
        case_id="c5",
        patient_id="p5",
        split="train",
        channels={"t1": tmp_path / "scan.nrrd"},
    )

    stored = read_image(case.channels["t1"])
    np.testing.assert_array_equal(stored.data, image.data)
    assert stored.grid.matches(image.grid)
    assert load_site(site.folder).case("c5") == case


def test_placing_the_same_image_again_is_fine_and_another_one_is_refused(tmp_path):
    channels = brain_channels(tmp_path)
    first = place(tmp_path / "site", channels)

    assert place(tmp_path / "site", channels) == first
    with pytest.raises(CaseError, match=r"Case b1.*already holds another image"):
        place(tmp_path / "site", channels | {"t1c": make_image(seed=9)})
    assert hash_image(first.channels.values()) == first.image_sha256


def test_a_missing_channel_is_refused_by_name(tmp_path):
    channels = brain_channels(tmp_path)
    del channels["t2w"]

    with pytest.raises(CaseError, match=r"Case b1 has the channels.*needs.*'t2w'"):
        place(tmp_path / "site", channels)


def test_channels_on_two_grids_are_refused_before_anything_is_written(tmp_path):
    moved = Volume(make_image().data, make_grid(shift_mm=3))

    with pytest.raises(GeometryError, match=r"channel t2f of case b1 is on another grid.*t1n"):
        place(tmp_path / "site", brain_channels(tmp_path, t2f=moved))
    assert not (tmp_path / "site").exists()


def test_damaged_images_are_refused_with_case_and_file_before_anything_is_written(tmp_path):
    cut, holed = tmp_path / "cut.nii.gz", tmp_path / "holed.nii.gz"
    write_image(make_image(), cut)
    cut.write_bytes(cut.read_bytes()[:-30])
    nib.save(nib.Nifti1Image(np.full(SHAPE, np.nan, np.float32), make_grid().affine), holed)

    for path in (cut, holed, tmp_path / "absent.nii.gz"):
        with pytest.raises(VolumeError, match=f"Case b1: .*{path.name}"):
            place(tmp_path / "site", brain_channels(tmp_path, t1c=path))
    assert not (tmp_path / "site").exists()
