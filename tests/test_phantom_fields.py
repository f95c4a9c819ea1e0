"""Smooth fields, distances and RAS order, measured."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.phantom.fields import (
    SmoothField,
    from_ras,
    interpolate,
    signed_distance,
    smooth_field,
    to_ras,
    voxel_positions,
)
from segfed.volumes import Grid

SHAPE, SPACING_MM = (60, 50, 40), (1.5, 2.0, 3.0)


def test_a_field_has_mean_zero_and_the_sd_one():
    # Smoothing by 6 mm leaves pieces of (2 sqrt(pi) 6 mm)³ = 9600 mm³, of which 90 x 100 x 120 mm
    # hold 112: the mean scatters by 0.09. Linear interpolation takes up to 6 % off the SD
    field = smooth_field(
        np.random.default_rng(0), shape=SHAPE, spacing_mm=SPACING_MM, correlation_mm=6.0
    )

    assert field.shape == SHAPE
    assert float(field.mean()) == pytest.approx(0, abs=0.27)
    assert float(field.std()) == pytest.approx(0.97, abs=0.15)


def test_a_field_is_as_smooth_as_stated():
    # White noise smoothed by a Gaussian of SD s is correlated by exp(-d² / 4s²): at d = 2s by 1/e
    field = smooth_field(
        np.random.default_rng(1), shape=(120, 120, 40), spacing_mm=(1, 1, 3), correlation_mm=5.0
    )

    correlation = np.corrcoef(field[:-10].ravel(), field[10:].ravel())[0, 1]

    assert correlation == pytest.approx(np.exp(-1), abs=0.08)


def test_slabs_of_a_field_fit_together():
    field = SmoothField(np.random.default_rng(2), extent_mm=(90, 100, 120), correlation_mm=9.0)
    x, y, z = voxel_positions(SHAPE, SPACING_MM)

    slabs = np.concatenate([field.at([x, y, z[:17]]), field.at([x, y, z[17:]])], axis=2)

    assert np.array_equal(slabs, field.at([x, y, z]))


def test_interpolation_is_exact_for_a_linear_function():
    i, j, k = np.indices((4, 5, 6)).astype(np.float32)

    values = interpolate(
        2 * i - j + 3 * k, [np.array([0.5, 2.25]), np.array([3.0, 9.0]), np.array([1.5])]
    )

    # 2 * 0.5 - 3 + 4.5 = 2.5; beyond the last index 4 the value there is kept: 1 - 4 + 4.5 = 1.5
    assert values[:, :, 0].tolist() == [[2.5, 1.5], [6.0, 5.0]]


def test_distance_is_measured_from_between_the_voxels():
    mask = np.zeros((7, 7, 7), dtype=bool)
    mask[2:5] = True

    distance = signed_distance(mask, (2.0, 2.0, 2.0))

    # Centres are 2 mm apart, of which 0.45 voxels, 0.9 mm, are taken off
    assert distance[:, 3, 3] == pytest.approx([3.1, 1.1, -1.1, -3.1, -1.1, 1.1, 3.1])


def test_no_axis_order_is_lost_on_the_way_to_ras_and_back():
    affine = np.array([[0, 0, -3, 9], [-1.5, 0, 0, 4], [0, 2, 0, 5], [0, 0, 0, 1.0]])
    grid = Grid((4, 5, 6), affine)
    voxels = np.arange(120).reshape(4, 5, 6)

    turned, spacing_mm = to_ras(voxels, grid)

    # K points left, I posterior, J superior
    assert spacing_mm == (3.0, 1.5, 2.0)
    assert turned[0, 0, 0] == voxels[-1, 0, -1]
    assert turned[0, 0, 1] == voxels[-1, 1, -1]
    assert np.array_equal(from_ras(turned, grid), voxels)
