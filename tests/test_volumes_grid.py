"""Grids: what an affine means, and which ones are refused."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.errors import GeometryError
from segfed.volumes import Grid, check_same_grid
from tests.volumes_samples import IPL, LPS, OBLIQUE, STRAIGHT, make_grid


def moved(affine: list[list[float]], *, row: int, column: int, by: float) -> Grid:
    changed = np.array(affine, dtype=float)
    changed[row, column] += by
    return make_grid(changed)


@pytest.mark.parametrize(
    ("affine", "spacing_mm", "voxel_mm3", "orientation"),
    [
        (STRAIGHT, (1, 1.5, 3), 4.5, "RAS"),
        (LPS, (1, 1.5, 3), 4.5, "LPS"),
        (IPL, (3, 0.75, 0.75), 1.6875, "IPL"),
        # Largest parts of the columns: 0.8 forward; then 0.96 to the left; then 2.4 up.
        (OBLIQUE, (1, 1.5, 3), 4.5, "ALS"),
    ],
)
def test_spacing_volume_and_orientation_follow_from_the_affine(
    affine, spacing_mm, voxel_mm3, orientation
):
    grid = make_grid(affine)

    assert grid.spacing_mm == pytest.approx(spacing_mm)
    assert grid.voxel_mm3 == pytest.approx(voxel_mm3)
    assert grid.orientation == orientation


def test_a_grid_keeps_its_own_affine_which_nobody_can_change():
    affine = np.array(STRAIGHT, dtype=float)
    grid = make_grid(affine)

    affine[0, 3] = 99

    assert grid.affine[0, 3] == 10
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 99


def test_grids_match_up_to_the_tolerance():
    assert make_grid(OBLIQUE).matches(moved(OBLIQUE, row=1, column=3, by=0.009))
    assert not make_grid(OBLIQUE).matches(moved(OBLIQUE, row=1, column=3, by=0.011))
    assert make_grid(OBLIQUE).matches(moved(OBLIQUE, row=1, column=3, by=0.4), tolerance_mm=0.5)


def test_a_difference_of_spacing_adds_up_over_the_axis():
    # K has 9 voxels, so 8 steps: 0.002 mm each are 0.016 mm at the end, 0.001 mm each 0.008 mm.
    assert not make_grid(STRAIGHT).matches(moved(STRAIGHT, row=2, column=2, by=0.002))
    assert make_grid(STRAIGHT).matches(moved(STRAIGHT, row=2, column=2, by=0.001))


def test_a_flipped_grid_over_the_same_field_does_not_match():
    # I runs from 10 to 14 mm in the one, from 14 to 10 mm in the other.
    flipped = [[-1.0, 0, 0, 14], *STRAIGHT[1:]]

    assert not make_grid(STRAIGHT).matches(make_grid(flipped))


def test_another_shape_does_not_match():
    assert not make_grid(STRAIGHT).matches(make_grid(STRAIGHT, shape=(5, 7, 8)))


def test_the_message_about_two_grids_prints_both_shapes_and_spacings():
    found, expected = make_grid(STRAIGHT, shape=(5, 7, 8)), make_grid(LPS)

    with pytest.raises(GeometryError) as caught:
        check_same_grid(found, expected, name="label a.nii.gz of case 7", reference="image")

    assert str(caught.value) == (
        "The label a.nii.gz of case 7 is on another grid than the image. Found shape 5 x 7 x 8, "
        "spacing 1 x 1.5 x 3 mm, orientation RAS, first voxel at (10, -20, 30) mm; expected shape "
        "5 x 7 x 9, spacing 1 x 1.5 x 3 mm, orientation LPS, first voxel at (4, 9, 30) mm. Export "
        "it again on the grid of the image, or resample it to that grid."
    )


def test_the_message_about_two_grids_of_one_shape_says_how_far_they_lie_apart():
    with pytest.raises(GeometryError, match=r"corner voxels lie up to 0\.25 mm apart"):
        check_same_grid(
            make_grid(STRAIGHT),
            moved(STRAIGHT, row=0, column=3, by=0.25),
            name="label",
            reference="image",
        )


def test_equal_grids_pass_the_check():
    check_same_grid(make_grid(IPL), make_grid(IPL), name="label", reference="image")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 0), (5, 7, 9, 2)])
def test_a_shape_that_is_not_3d_is_refused(shape):
    with pytest.raises(GeometryError, match=r"Found a grid of shape .*expected three axes.*Save"):
        Grid(shape, np.eye(4))


@pytest.mark.parametrize(
    "linear",
    [
        np.diag([1.0, 0, 3]),  # no extent along J
        [[1.0, 1, 0], [0, 0, 0], [0, 0, 3]],  # I and J run along the same line
    ],
)
def test_a_singular_affine_is_refused(linear):
    affine = np.eye(4)
    affine[:3, :3] = linear

    with pytest.raises(GeometryError, match=r"Found the affine .*singular; expected .*convert"):
        make_grid(affine)


def test_an_affine_with_nan_is_refused():
    with pytest.raises(GeometryError, match=r"nan.*expected 4 x 4 finite numbers.*convert"):
        moved(STRAIGHT, row=0, column=0, by=np.nan)


def test_a_sheared_affine_is_refused_with_its_angle():
    # K leans towards J by 3 mm * tan(5 degrees) a slice, as under a tilted gantry.
    with pytest.raises(GeometryError, match=r"5 degrees away from perpendicular.*Resample"):
        moved(STRAIGHT, row=1, column=2, by=3 * np.tan(np.radians(5)))


def test_the_rounding_of_headers_is_not_taken_for_shear():
    rounded = np.round(np.array(OBLIQUE), 4)
    rounded[0, 1] += 2e-4

    assert make_grid(rounded).spacing_mm == pytest.approx((1, 1.5, 3), abs=1e-3)
