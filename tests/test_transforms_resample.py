"""Resampling between parallel grids, against hand-worked values and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from tests.volumes_samples import IPL, OBLIQUE, SHAPE, STRAIGHT
from transforms.resample import axis_map, ras_grid, resample, take


def straight_line(n: int) -> tuple[np.ndarray, tuple[int, int, int]]:
    """A grid of n voxels of 1 mm along I, and one along J and K; centres at 0, 1, 2, ... mm."""
    return np.eye(4), (n, 1, 1)


def test_the_ras_grid_of_a_kits_file_turns_and_flips_its_axes():
    # I runs down (5 of 3 mm), J to the back (7 of 0.75), K to the left (9 of 0.75), from (6, 2, 0).
    # The lowest corner: right 6 - 8 * 0.75 = 0, anterior 2 - 6 * 0.75 = -2.5, up 0 - 4 * 3 = -12.
    affine, shape = ras_grid(np.array(IPL), SHAPE, spacing_mm=(0.75, 0.75, 3))

    assert shape == (9, 7, 5)
    expected = [[0.75, 0, 0, 0], [0, 0.75, 0, -2.5], [0, 0, 3, -12], [0, 0, 0, 1]]
    np.testing.assert_array_equal(affine, expected)


@pytest.mark.parametrize(
    ("spacing_mm", "centres_mm"),
    [
        # The field reaches from -0.5 to 5.5 mm.
        (1.0, [0, 1, 2, 3, 4, 5]),
        (2.0, [0.5, 2.5, 4.5]),
        (1.5, [0.25, 1.75, 3.25, 4.75]),
        (4.0, [0.5, 4.5]),  # one and a half voxels become two, 1 mm over each end
        (50.0, [2.5]),
    ],
)
def test_a_new_spacing_keeps_the_centre_of_the_field(spacing_mm, centres_mm):
    affine, shape = straight_line(6)

    new_affine, new_shape = ras_grid(affine, shape, spacing_mm=(spacing_mm, 1, 1))

    assert new_shape == (len(centres_mm), 1, 1)
    positions = new_affine[0, 3] + new_affine[0, 0] * np.arange(new_shape[0])
    np.testing.assert_allclose(positions, centres_mm)


def test_an_oblique_grid_keeps_its_directions():
    # A turn by 22.6 degrees about z (sides 5, 12, 13): each axis stays nearest to its own.
    affine = np.array([[12 / 13, -5 / 13, 0, 1], [5 / 13, 12 / 13, 0, 2], [0, 0, 1, 3]])
    affine = np.vstack([affine * [1, 1.5, 3, 1], [0, 0, 0, 1]])

    new_affine, shape = ras_grid(affine, (4, 6, 10), spacing_mm=(2, 3, 3))

    assert shape == (2, 3, 10)
    np.testing.assert_allclose(new_affine[:3, :3], affine[:3, :3] * [2, 2, 1])
    # The first voxel's centre moves by half an old voxel along I and along J.
    np.testing.assert_allclose(new_affine[:, 3], affine @ [0.5, 0.5, 0, 1])


def test_a_spacing_that_differs_by_rounding_only_keeps_the_voxels():
    affine = np.diag([np.float32(0.8), 1.5, 3, 1]).astype(float)

    new_affine, shape = ras_grid(affine, (600, 7, 9), spacing_mm=(0.8, 1.5, 3))

    assert shape == (600, 7, 9)
    np.testing.assert_array_equal(new_affine, affine)


def test_axes_that_are_not_parallel_are_refused():
    with pytest.raises(ValueError, match=r"axes are not parallel: affine .*Warp the volume"):
        axis_map(np.array(STRAIGHT), np.array(OBLIQUE), SHAPE)


def test_linear_values_lie_between_their_neighbours_and_the_edge_continues():
    line = torch.tensor([10.0, 20, 40])

    values = take(line, np.array([-1, 0, 0.25, 1, 1.5, 2, 7]), axis=0)

    assert values.tolist() == [10, 10, 12.5, 20, 30, 40, 40]


def test_nearest_takes_the_higher_of_two_equally_near_voxels():
    line = torch.tensor([1, 2, 3], dtype=torch.uint8)

    values = take(line, np.array([-1, 0.4, 0.5, 1.5, 1.6, 9]), axis=0, nearest=True)

    assert values.tolist() == [1, 1, 2, 3, 3, 3]
    assert values.dtype == torch.uint8


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
def test_labels_keep_type_and_values(dtype):
    label = torch.arange(6, dtype=dtype).reshape(1, 6, 1, 1)
    affine, shape = straight_line(6)
    target_affine, target_shape = ras_grid(affine, shape, spacing_mm=(2, 1, 1))

    coarse = resample(
        label,
        affine=affine,
        target_affine=target_affine,
        target_shape=target_shape,
        nearest=True,
    )

    # Centres at 0.5, 2.5, 4.5: ties, which go up.
    assert coarse.flatten().tolist() == [1, 3, 5]
    assert coarse.dtype == dtype


spacings_mm = st.tuples(*[st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 7.0])] * 3)


@settings(max_examples=40, deadline=None)
@given(spacing_mm=spacings_mm, source=st.sampled_from([STRAIGHT, IPL, OBLIQUE]))
def test_linear_resampling_agrees_with_scipy(spacing_mm, source):
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    affine = np.array(source)
    target_affine, target_shape = ras_grid(affine, SHAPE, spacing_mm=spacing_mm)

    values = resample(
        torch.from_numpy(data)[None],
        affine=affine,
        target_affine=target_affine,
        target_shape=target_shape,
        nearest=False,
    )

    index = np.indices(target_shape).reshape(3, -1)
    to_source = np.linalg.inv(affine) @ target_affine
    where = to_source[:3, :3] @ index + to_source[:3, 3:]
    expected = map_coordinates(data, where, order=1, mode="nearest").reshape(target_shape)
    # float32 weights and positions rounded to 1e-6 voxels, on values of about 1.
    np.testing.assert_allclose(values[0].numpy(), expected, atol=1e-5)
