"""The viewer's files hold what the report was made from, on the patient's axes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segfed.report import viewer
from segfed.report.viewer import start_viewer_folder, write_case
from segfed.volumes import Grid, Volume

# RAS mm of the voxel (0, 0, 0); axes run to the left, the front and upwards
AFFINE = np.array([[-3.0, 0, 0, 90], [0, 1.0, 0, -20], [0, 0, 5.0, 7], [0, 0, 0, 1]])
SHAPE = (60, 90, 24)


def volume(block, value=1):
    data = np.zeros((1, *SHAPE), dtype=np.uint8)
    data[0][block] = value
    return Volume(data, Grid(SHAPE, AFFINE))


BLOCK = (slice(30, 34), slice(40, 44), slice(10, 13))
IMAGE = Volume(np.full((1, *SHAPE), 40.0, dtype=np.float32), Grid(SHAPE, AFFINE))


def written(tmp_path, labels, image=IMAGE):
    path = tmp_path / "case-0.js"
    write_case(path, image, labels, window=(0.0, 80.0))
    found = re.fullmatch(r"segfedCase\((.*)\);\n", path.read_text())
    return json.loads(found[1])


def nifti(text):
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def places(image):
    """RAS mm of the centres of all voxels that are not 0."""
    return nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) > 0))


def test_the_contour_lies_on_the_labels_outer_faces(tmp_path):
    found = nifti(written(tmp_path, {"reference": volume(BLOCK)})["contours"]["reference"])

    # Edges of the block in mm: voxels 30 to 33 of 3 mm to the left, 40 to 43 of 1 mm, 10 to 12 of
    # 5 mm. Voxels of 1.5, 1 and 1.25 mm lie half of that inside.
    low, high = places(found).min(axis=0), places(found).max(axis=0)
    assert low == pytest.approx([90 - 3 * 33.5 + 0.75, -20 + 40, 7 + 5 * 9.5 + 0.625])
    assert high == pytest.approx([90 - 3 * 29.5 - 0.75, -20 + 43, 7 + 5 * 12.5 - 0.625])
    assert nib.aff2axcodes(found.affine) == ("R", "A", "S")


def test_the_inside_of_a_label_is_left_open(tmp_path):
    content = written(tmp_path, {"reference": volume(BLOCK)})
    found = np.asarray(nifti(content["contours"]["reference"]).dataobj)

    # 4 x 2, 4 x 1 and 3 x 4 voxels, all but one on each side filled.
    assert content["voxelTimes"] == [2, 1, 4]
    assert np.count_nonzero(found) == 8 * 4 * 12 - 6 * 2 * 10


def test_the_image_is_cut_to_what_is_labelled_and_shows_the_window(tmp_path):
    found = nifti(written(tmp_path, {"reference": volume(BLOCK)})["image"])

    # 25 mm are 8 voxels of 3 mm, 25 of 1 mm and 5 of 5 mm on either side.
    assert found.shape == ((4 + 16) * 2, 4 + 50, (3 + 10) * 4)
    assert set(np.unique(found.dataobj)) == {127}  # 40 of 80
    assert found.get_data_dtype() == np.uint8


def test_the_first_slice_is_the_one_with_most_of_the_reference(tmp_path):
    small = volume(BLOCK)
    small.data[0, 30:40, 40:50, 12] = 1
    content = written(tmp_path, {"reference": small, "manual": volume(BLOCK)})

    size = nifti(content["image"]).shape[2]
    # The third of three labelled levels, after 5 of margin.
    assert content["start"][2] == pytest.approx((5 + 2 + 0.5) * 4 / size)
    assert set(content["contours"]) == {"reference", "manual"}


def test_a_case_without_any_label_is_shown_whole(tmp_path):
    nothing = volume((slice(0, 0),) * 3)

    content = written(tmp_path, {"reference": nothing})

    assert nifti(content["image"]).shape == (60 * 2, 90, 24 * 4)
    assert content["start"] == [0.5, 0.5, 0.5]


def test_the_same_case_gives_the_same_file(tmp_path):
    first = written(tmp_path, {"reference": volume(BLOCK)})

    assert written(tmp_path, {"reference": volume(BLOCK)}) == first


def test_the_folder_is_emptied_and_holds_program_and_licence(tmp_path):
    (tmp_path / "report_files").mkdir()
    (tmp_path / "report_files" / "old.js").touch()

    folder = start_viewer_folder(tmp_path)

    assert {path.name for path in folder.iterdir()} == {"niivue.umd.js", "NIIVUE-LICENSE.txt"}


def test_the_vendored_program_is_the_one_that_is_named():
    vendor = Path(viewer.__file__).parent / "vendor"

    found = hashlib.sha256((vendor / "niivue.umd.js").read_bytes()).hexdigest()

    assert f"`{found}`" in (vendor / "README.md").read_text()
