"""Overlay pictures lie the right way round, in millimetres."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from segfed.report.build import build_report
from segfed.report.page import render_html
from segfed.report.pictures import choose_cases, draw_picture, make_pictures
from segfed.report.values import Scores
from segfed.sites import load_site, submit_label
from segfed.study.records import SCORES_FILE, read_scores, read_study
from segfed.volumes import Grid, Volume
from tests.report_samples import organ, write_run

STRUCTURES = {"organ": (1,)}


def volume(data, affine):
    return Volume(data[None], Grid(data.shape, affine))


def drawn(image, label, affine, **options):
    return draw_picture(
        volume(image.astype(np.float32), affine),
        {"reference": volume(label, affine), **options},
        structures=STRUCTURES,
        window_hu=(0, 255),
        site="a",
        case="c",
        rank="best",
        dice={},
    )


def grey(picture):
    content = base64.b64decode(picture.image_png)
    return np.asarray(Image.open(io.BytesIO(content)))


def corners(path):
    """Left, top, right and bottom of an SVG path."""
    numbers = np.array([float(value) for value in re.findall(r"-?\d+\.?\d*", path)])
    x, y = numbers[::2], numbers[1::2]
    return x.min(), y.min(), x.max(), y.max()


def test_the_patients_right_is_at_the_left_and_the_front_at_the_top():
    # RAS axes: the highest first index is the patient's right, the highest second the front.
    image = np.zeros((5, 4, 3), dtype=np.uint8)
    image[4, 3, 1] = 255
    label = np.zeros_like(image)
    label[2, 2, 1] = 1

    found = grey(drawn(image, label, np.diag([2.0, 3.0, 4.0, 1.0])))

    assert found.shape == (4, 5)  # rows run from front to back, columns from right to left
    assert found[0, 0] == 255
    assert (found > 0).sum() == 1


def test_a_grid_on_other_axes_gives_the_same_picture():
    image = np.random.default_rng(0).integers(0, 255, size=(5, 4, 3)).astype(np.uint8)
    label = np.zeros_like(image)
    label[1:3, 2, 1] = 1
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    # The same voxels stored as (K, J, -I): first axis upwards, last axis to the left.
    turned = np.zeros((4, 4))
    turned[2, 0], turned[1, 1], turned[0, 2], turned[3, 3] = 4.0, 3.0, -2.0, 1.0

    straight = drawn(image, label, affine)
    stored_otherwise = drawn(
        image.transpose(2, 1, 0)[:, :, ::-1].copy(),
        label.transpose(2, 1, 0)[:, :, ::-1].copy(),
        turned,
    )

    assert stored_otherwise == straight


def test_contours_lie_around_their_voxels_in_mm():
    label = np.zeros((40, 30, 3), dtype=np.uint8)
    label[10:20, 10:14, 1] = 1
    picture = drawn(label * 100, label, np.diag([2.0, 3.0, 5.0, 1.0]))

    left, top, right, bottom = corners(picture.contours["reference"])

    # 10 voxels of 2 mm and 4 of 3 mm, less half a voxel at each side, where the contour at half
    # height between centres runs: from edge to edge of the mask.
    assert right - left == pytest.approx(20, abs=0.2)
    assert bottom - top == pytest.approx(12, abs=0.2)
    # The labelled square lies in the middle of the picture, whose side is the smallest allowed.
    assert picture.side_mm == 70
    assert (left + right) / 2 == pytest.approx(35, abs=0.1)
    assert (top + bottom) / 2 == pytest.approx(35, abs=0.1)
    # And over the same place of the image: column 40 - 20 = 20 begins 40 mm from its left.
    assert picture.image_box[0] == pytest.approx(left - 40, abs=0.1)


def test_the_slice_is_the_one_with_the_largest_reference():
    label = np.zeros((8, 8, 5), dtype=np.uint8)
    label[3, 3, 1] = 1
    label[2:5, 2:5, 3] = 1

    picture = drawn(label, label, np.diag([1.0, 1.0, 2.5, 1.0]))

    assert picture.slice_mm == pytest.approx(7.5)


def test_an_empty_reference_shows_where_something_was_predicted():
    empty = np.zeros((8, 8, 5), dtype=np.uint8)
    wrong = empty.copy()
    wrong[4, 4, 2] = 1
    affine = np.diag([1.0, 1.0, 2.0, 1.0])

    picture = drawn(empty, empty, affine, manual=volume(wrong, affine))

    assert picture.slice_mm == pytest.approx(4.0)
    assert picture.contours["reference"] == ""
    assert picture.contours["manual"] != ""


def test_worst_median_and_best_are_chosen_once_each():
    assert choose_cases({"a": 0.9, "b": 0.1, "c": 0.5}) == {
        "worst": "b",
        "median": "c",
        "best": "a",
    }
    assert choose_cases({"a": 0.9, "b": 0.1}) == {"worst": "b", "best": "a"}
    assert choose_cases({"a": 0.9}) == {"worst": "a"}
    assert choose_cases({"a": float("nan")}) == {}


@pytest.fixture
def small_run(tmp_path):
    """One site with two test cases and their volumes; the second scores better."""
    return write_run(
        tmp_path,
        dice=lambda *names: 0.5 + int(names[2][-2:]) / 10,  # by the number of the case
        cases={"a": 2},
        external={},
        arms=("manual",),
        regimes=("pooled",),
        with_volumes=True,
    )


def pictures_of(run):
    return make_pictures(run, read_study(run), Scores(read_scores(run / SCORES_FILE)))


def test_the_reference_is_the_label_that_was_scored_not_a_later_one(small_run):
    before = pictures_of(small_run)
    site = load_site(small_run.parent / "a")
    moved = organ(shift_mm=20.0)
    submit_label(site, case_id="a_00", label=moved, origin="manual", reader="manual-reader")

    after = pictures_of(small_run)

    assert [picture.case for picture in after.drawn] == ["a_00", "a_01"]
    assert after == before


def test_a_damaged_image_leaves_out_its_picture_and_a_line_says_so(small_run):
    site = load_site(small_run.parent / "a")
    site.case("a_00").channels["ct"].write_bytes(b"no image")

    found = pictures_of(small_run)

    assert [picture.case for picture in found.drawn] == ["a_01"]
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("No picture of a/a_00 (worst): ")
    assert "No picture of a/a_00" in render_html(build_report(small_run), pictures=found)


def test_a_missing_prediction_leaves_out_its_picture_and_a_line_says_so(small_run):
    for path in small_run.rglob("a_01.nii.gz"):
        path.unlink()

    found = pictures_of(small_run)

    assert [picture.case for picture in found.drawn] == ["a_00"]
    assert found.left_out[0].startswith("No picture of a/a_01 (best): ")
