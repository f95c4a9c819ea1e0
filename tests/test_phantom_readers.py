"""Simulated readers, against displacements worked out by hand and measured independently."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segfed.errors import ConfigError
from segfed.evaluation.surface import surface_distances
from segfed.phantom.fields import voxel_positions
from segfed.phantom.readers import Reader, correct, draw, load_reader

SPACING_MM = (1.0, 1.5, 2.0)
SHAPE = (112, 72, 60)
# Mean of |x| for a normal x with SD 1
MEAN_ABSOLUTE = math.sqrt(2 / math.pi)


def ellipsoid(radii_mm=(40.0, 33.0, 43.0), centre_mm=(55.3, 53.8, 59.1)):
    positions = voxel_positions(SHAPE, SPACING_MM)
    x, y, z = (((p - c) / r) ** 2 for p, c, r in zip(positions, centre_mm, radii_mm, strict=True))
    return (x[:, None, None] + y[:, None] + z) <= 1


def drawn(truth, *, seed=0, **habits):
    reader = Reader(name="r", **habits)
    return draw(truth, reader, spacing_mm=SPACING_MM, rng=np.random.default_rng(seed)).label


@pytest.mark.parametrize("contour_sd_mm", [1.0, 2.0])
def test_the_contour_is_off_by_the_stated_amount(contour_sd_mm):
    # A thin shell between two surfaces has the volume (mean distance) x (area). Smoothing by 6 mm
    # leaves pieces of (2 sqrt(pi) 6 mm)² = 4.5 cm² on 190 cm², 42 a draw, 168 in four draws: the
    # mean of |x|, 0.80 with an SD of 0.60, scatters by 0.60 / 0.80 / sqrt(168) = 6 %.
    truth = ellipsoid()
    shells_mm, distances_mm = [], []
    for seed in range(4):
        label = drawn(
            truth.astype(np.uint8), seed=seed, contour_sd_mm=contour_sd_mm, correlation_mm=6.0
        )
        found = surface_distances(truth, label > 0, spacing_mm=SPACING_MM)
        areas_mm2 = found.reference_areas_mm2
        changed_mm3 = np.count_nonzero(label != truth) * np.prod(SPACING_MM)
        shells_mm.append(changed_mm3 / areas_mm2.sum())
        distances_mm.append(np.average(found.reference_to_predicted_mm, weights=areas_mm2))

    assert np.mean(shells_mm) == pytest.approx(MEAN_ABSOLUTE * contour_sd_mm, rel=0.12)
    # The nearest point of the other surface is never further than the point along the normal,
    # and marching cubes counts a step of less than half a voxel as none.
    assert 0.5 * MEAN_ABSOLUTE * contour_sd_mm < np.mean(distances_mm) < np.mean(shells_mm)


@pytest.mark.parametrize("bias_mm", [-3.0, 3.0])
def test_bias_moves_the_outer_contour_by_its_size(bias_mm):
    # Ellipsoids with all radii changed by the bias; a voxel's rounding is about 1 % of this volume
    expected = ellipsoid(tuple(r + bias_mm for r in (40.0, 33.0, 43.0))).sum()

    label = drawn(ellipsoid().astype(np.uint8), contour_sd_mm=0.0, bias_mm=bias_mm)

    assert np.count_nonzero(label) == pytest.approx(expected, rel=0.03)


def test_the_border_between_two_structures_moves_as_much_as_the_outer_one():
    # Two halves of a block: the border is a plane of 72 x 1.5 mm by 60 x 2 mm = 12960 mm²
    truth = np.ones(SHAPE, dtype=np.uint8)
    truth[56:] = 2
    shells_mm = [
        np.count_nonzero(drawn(truth, seed=seed, contour_sd_mm=2.0) != truth) * 3.0 / 12960
        for seed in range(6)
    ]

    assert np.mean(shells_mm) == pytest.approx(2.0 * MEAN_ABSOLUTE, rel=0.15)


def test_a_reader_without_errors_draws_the_truth():
    truth = ellipsoid().astype(np.uint8)
    truth[40:50, 30:40, 20:30] = 3

    assert np.array_equal(drawn(truth, contour_sd_mm=0.0), truth)


def test_nothing_to_draw_is_nothing_drawn():
    empty = np.zeros((5, 6, 7), dtype=np.uint8)

    drawing = draw(empty, Reader(name="r"), spacing_mm=SPACING_MM, rng=np.random.default_rng(0))

    assert not drawing.label.any()
    assert drawing.n_regions == 0
    assert drawing.edit_seconds == Reader(name="r").view_seconds


def test_drawing_takes_the_stated_time():
    # A cuboid of 10 x 8 x 6 voxels is 10 x 12 x 12 mm: 2 * (120 + 120 + 144) = 768 mm² of
    # surface, 7.68 cm² at 2 s, 30 s to look and 8 s to begin: 53.36 s, rounded
    truth = np.zeros((20, 20, 20), dtype=np.uint8)
    truth[4:14, 4:12, 4:10] = 1

    drawing = draw(
        truth,
        Reader(name="r", contour_sd_mm=0.0),
        spacing_mm=SPACING_MM,
        rng=np.random.default_rng(0),
    )

    assert drawing.edit_seconds == pytest.approx(53.4)


EXACT = {"contour_sd_mm": 0.0, "notice_mm": 4.0, "reach_mm": 6.0}


def corrected(proposal, truth, *, seed=0, **habits):
    reader = Reader(name="r", **(EXACT | habits))
    return correct(proposal, truth, reader, spacing_mm=SPACING_MM, rng=np.random.default_rng(seed))


def test_an_error_too_small_to_notice_is_accepted_unchanged():
    truth = ellipsoid().astype(np.uint8)
    proposal = ellipsoid((42.0, 35.0, 45.0)).astype(np.uint8)  # 2 mm too large, 4 are noticed

    drawing = corrected(proposal, truth)

    assert np.array_equal(drawing.label, proposal)
    assert drawing.n_regions == 0
    assert drawing.edit_seconds == 30.0


def test_only_the_noticeable_error_is_redrawn():
    truth = ellipsoid().astype(np.uint8)
    proposal = ellipsoid((42.0, 35.0, 45.0)).astype(np.uint8)
    island = (slice(2, 8), slice(2, 8), slice(2, 8))  # nowhere near the organ
    proposal[island] = 1

    drawing = corrected(proposal, truth)

    assert not drawing.label[island].any()
    proposal[island] = 0
    assert np.array_equal(drawing.label, proposal), "the organ's contour is left as it was"
    assert drawing.n_regions == 1
    # The island's surface is 2 * (6 * 9 + 6 * 12 + 9 * 12) = 468 mm², but the label no longer has
    # it: erasing costs the fixed time alone
    assert drawing.edit_seconds == pytest.approx(38.0)


def test_a_missed_structure_is_drawn_in():
    truth = ellipsoid().astype(np.uint8)
    proposal = truth.copy()
    truth[ellipsoid((12.0, 12.0, 12.0))] = 2

    # All voxels within 12 mm of the centre: the noticed ones lie 4 mm deep, 6 mm reach further
    assert np.array_equal(corrected(proposal, truth).label, truth)


def test_anchoring_leaves_the_stated_share_of_noticed_regions():
    # 60 islands, each its own region: 60 % left is 36, with an SD of sqrt(60 * .6 * .4) = 3.8
    truth = np.zeros((80, 60, 20), dtype=np.uint8)
    truth[0, 0, 0] = 1
    proposal = truth.copy()
    for i in range(4, 80, 8):
        for j in range(4, 60, 10):
            proposal[i : i + 3, j : j + 3, 8:11] = 1

    left = corrected(proposal, truth, anchoring=0.6, reach_mm=3.0).label

    assert 36 - 3 * 3.8 < np.count_nonzero(left) / 27 < 36 + 3 * 3.8
    assert np.array_equal(corrected(proposal, truth, anchoring=1.0).label, proposal)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sd=st.floats(0.0, 3.0),
    bias=st.floats(-2.0, 2.0),
    anchoring=st.floats(0.0, 1.0),
)
def test_laws_of_readers(seed, sd, bias, anchoring):
    rng = np.random.default_rng(seed)
    truth = np.zeros((14, 12, 10), dtype=np.uint8)
    truth[3:10, 3:9, 2:8] = 1
    truth[5:8, 4:7, 3:6] = 2
    proposal = np.roll(truth, int(rng.integers(-3, 4)), axis=0)
    reader = Reader(name="r", contour_sd_mm=sd, bias_mm=bias, anchoring=anchoring)

    results = [
        correct(proposal, truth, reader, spacing_mm=SPACING_MM, rng=np.random.default_rng(seed))
        for _ in range(2)
    ]

    assert np.array_equal(results[0].label, results[1].label), "same seed, same label"
    assert set(np.unique(results[0].label)) <= {0, 1, 2}, "no value that nobody drew"
    unchanged = np.array_equal(results[0].label, proposal)
    assert unchanged == (results[0].n_regions == 0), "accepted means unchanged"


def test_a_site_without_a_reader_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"No reader file at .*reader\.toml"):
        load_reader(tmp_path)
