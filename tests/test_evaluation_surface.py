"""Surface metrics: by hand, by brute force, and beside two independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_surface_dice
from scipy.spatial.distance import cdist
from surface_distance import lookup_tables
from surface_distance import metrics as deepmind

from segfed.errors import GeometryError
from segfed.evaluation import hd95_mm, surface_dice, surface_distances

SPACING_MM = (2.0, 1.0, 3.0)


def voxel(i: int) -> np.ndarray:
    mask = np.zeros((8, 5, 4), dtype=bool)
    mask[i, 2, 1] = True
    return mask


def random_pair(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    rng = np.random.default_rng(seed)
    first, second = (rng.random((9, 8, 7)) > rng.uniform(0.4, 0.95) for _ in range(2))
    spacing_mm = tuple(float(step) for step in rng.uniform(0.5, 5.0, size=3))
    return first, second, spacing_mm


def test_one_voxel_has_eight_elements_of_known_area():
    # Each corner holds a triangle whose normal is an eighth of (1·3, 2·3, 2·1) = (3, 6, 2) mm²,
    # of length 7: 0.875 mm².
    distances = surface_distances(voxel(2), voxel(2), spacing_mm=SPACING_MM)

    assert distances.reference_areas_mm2 == pytest.approx([0.875] * 8)
    assert distances.reference_to_predicted_mm.tolist() == [0.0] * 8


def test_a_shift_by_one_voxel_moves_half_of_the_corners():
    # Four corners coincide; the other four of each voxel lie 2 mm from the nearest.
    limits = {"spacing_mm": SPACING_MM}

    assert surface_dice(voxel(2), voxel(3), tolerance_mm=1.9, **limits) == pytest.approx(0.5)
    assert surface_dice(voxel(2), voxel(3), tolerance_mm=2.0, **limits) == 1
    assert hd95_mm(voxel(2), voxel(3), **limits) == pytest.approx(2.0)


def test_a_tolerance_of_two_voxels_survives_single_precision_spacing():
    # A rotated affine read from a float32 header gives 1.0000001 mm.
    spacing_mm = (1.0000001, 1.0, 1.0)

    assert surface_dice(voxel(2), voxel(4), spacing_mm=spacing_mm, tolerance_mm=2.0) == 1


def test_a_structure_at_the_image_edge_has_a_surface_there():
    whole = np.ones((3, 4, 5), dtype=bool)
    padded = np.pad(whole, 2)

    at_edge = surface_distances(whole, whole, spacing_mm=SPACING_MM)
    inside = surface_distances(padded, padded, spacing_mm=SPACING_MM)

    assert at_edge.reference_areas_mm2.sum() == pytest.approx(inside.reference_areas_mm2.sum())


def test_empty_masks():
    empty, limits = np.zeros((8, 5, 4), dtype=bool), {"spacing_mm": SPACING_MM}

    assert math.isnan(surface_dice(empty, empty, tolerance_mm=1.0, **limits))
    assert math.isnan(hd95_mm(empty, empty, **limits))
    for pair in ((voxel(2), empty), (empty, voxel(2))):
        assert surface_dice(*pair, tolerance_mm=1.0, **limits) == 0
        assert hd95_mm(*pair, **limits) == math.inf


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="tolerance_mm must be zero or more"):
        surface_dice(voxel(1), voxel(2), spacing_mm=SPACING_MM, tolerance_mm=-1.0)
    with pytest.raises(ValueError, match="spacing_mm must be three positive numbers"):
        hd95_mm(voxel(1), voxel(2), spacing_mm=(1.0, 0.0, 1.0))
    with pytest.raises(GeometryError, match="resample"):
        hd95_mm(voxel(1), voxel(1).swapaxes(0, 1), spacing_mm=SPACING_MM)


def brute_force_hd95_mm(first, second, spacing_mm) -> float:
    """HD95 from every pair of surface corners, without a tree, a box or a distance transform."""
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    table = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    corners, areas = [], []
    for mask in (np.pad(first, 1), np.pad(second, 1)):
        found = {}
        for index in np.ndindex(*(size - 1 for size in mask.shape)):
            block = mask[tuple(slice(start, start + 2) for start in index)]
            code = int((block * kernel).sum())
            if code not in (0, 255):
                found[index] = table[code]
        corners.append(np.array(list(found)) * spacing_mm)
        areas.append(np.array(list(found.values())))
    distances = cdist(*corners)
    directed = []
    for nearest, area in ((distances.min(axis=1), areas[0]), (distances.min(axis=0), areas[1])):
        # The smallest distance within which 95 % of the area lies.
        within = [area[nearest <= limit].sum() / area.sum() for limit in np.sort(nearest)]
        directed.append(np.sort(nearest)[np.argmax(np.array(within) >= 0.95)])
    return max(directed)


@pytest.mark.parametrize("seed", range(6))
def test_hd95_is_the_brute_force_distance_on_anisotropic_grids(seed):
    first, second, spacing_mm = random_pair(seed)

    expected = brute_force_hd95_mm(first, second, np.array(spacing_mm))

    assert hd95_mm(first, second, spacing_mm=spacing_mm) == pytest.approx(expected, abs=1e-9)


# The package calls names that SciPy and NumPy have deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(20))
def test_both_metrics_are_those_of_the_surface_distance_package(seed):
    first, second, spacing_mm = random_pair(seed)
    theirs = deepmind.compute_surface_distances(first, second, spacing_mm)
    ours = surface_distances(first, second, spacing_mm=spacing_mm)

    assert ours.hd95_mm() == pytest.approx(deepmind.compute_robust_hausdorff(theirs, 95), abs=1e-9)
    for tolerance_mm in (0.0, 1.0, 2.5):
        expected = deepmind.compute_surface_dice_at_tolerance(theirs, tolerance_mm)
        assert ours.dice(tolerance_mm=tolerance_mm) == pytest.approx(expected, abs=1e-9)


# MONAI 1.6 passes itself an argument that it has deprecated.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(8))
def test_surface_dice_is_that_of_monai_with_subvoxels(seed):
    first, second, spacing_mm = random_pair(seed)
    tensors = [
        torch.from_numpy(np.stack([mask])[None].astype(np.float32)) for mask in (second, first)
    ]

    expected = compute_surface_dice(
        *tensors,
        class_thresholds=[1.3],
        include_background=True,
        spacing=spacing_mm,
        use_subvoxels=True,
    )

    # MONAI computes in single precision.
    measured = surface_dice(first, second, spacing_mm=spacing_mm, tolerance_mm=1.3)
    assert measured == pytest.approx(float(expected), abs=1e-5)


masks = arrays(bool, (5, 4, 3))
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 2.0, 5.0])] * 3)


@settings(max_examples=60, deadline=None)
@given(a=masks, b=masks, spacing_mm=spacings, tolerance_mm=st.sampled_from([0.0, 1.0, 3.0]))
def test_laws_of_surface_dice(a, b, spacing_mm, tolerance_mm):
    def measure(x, y, spacing=spacing_mm, tolerance=tolerance_mm):
        return surface_dice(x, y, spacing_mm=spacing, tolerance_mm=tolerance)

    value = measure(a, b)
    if math.isnan(value):
        assert not (a | b).any()
        return
    assert 0 <= value <= 1
    assert value == pytest.approx(measure(b, a)), "symmetric"
    assert value <= measure(a, b, tolerance=tolerance_mm + 1) + 1e-12, "grows with tolerance"
    doubled = tuple(2 * step for step in spacing_mm)
    assert value == pytest.approx(measure(a, b, doubled, 2 * tolerance_mm)), "scales with mm"


@settings(max_examples=60, deadline=None)
@given(a=masks, b=masks, spacing_mm=spacings)
def test_laws_of_hd95(a, b, spacing_mm):
    value = hd95_mm(a, b, spacing_mm=spacing_mm)
    if not (a.any() and b.any()):
        assert not math.isfinite(value)
        return
    assert value == hd95_mm(b, a, spacing_mm=spacing_mm), "symmetric"
    assert hd95_mm(a, a, spacing_mm=spacing_mm) == 0
    doubled = tuple(2 * step for step in spacing_mm)
    assert 2 * value == pytest.approx(hd95_mm(a, b, spacing_mm=doubled)), "scales with mm"
    padded = [np.pad(mask, ((3, 0), (1, 2), (0, 4))) for mask in (a, b)]
    assert value == pytest.approx(hd95_mm(*padded, spacing_mm=spacing_mm)), "blind to background"
