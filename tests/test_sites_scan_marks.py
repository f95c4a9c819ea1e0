"""The marks of a scan stay with it however it is written, and differ between patients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segfed.sites.scan_marks import scan_marks
from segfed.volumes import Grid, Volume

SHAPE, SPACING_MM = (44, 52, 40), (1.0, 1.1, 1.2)


def scan(seed: int) -> Volume:
    """Smooth structure of several sizes, with a little noise."""
    rng = np.random.default_rng(seed)
    field = sum(
        weight * ndimage.gaussian_filter(rng.normal(size=SHAPE), width) * width**1.5
        for weight, width in ((1.0, 2.0), (2.0, 4.0))
    )
    data = 300 + 100 * field + rng.normal(scale=2, size=SHAPE)
    return Volume(data[None].astype(np.float32), Grid(SHAPE, np.diag([*SPACING_MM, 1.0])))


def shared(first: Volume, second: Volume) -> float:
    """Share of the marks of the scan with fewer of them that the other one has."""
    one, other = scan_marks(first), scan_marks(second)
    return len(one & other) / min(len(one), len(other))


def cut(image: Volume) -> Volume:
    """Without its outer slices, and with an origin of its own, as after anonymisation."""
    data = image.data[:, 4:, 3:-2, 2:-5]
    return Volume(data, Grid(data.shape[1:], np.diag([*SPACING_MM, 1.0])))


def turned(image: Volume) -> Volume:
    """The same voxels stored from left to right and slice by slice in another order."""
    data = image.data[:, ::-1].transpose(0, 3, 1, 2)
    affine = image.grid.affine.copy()
    affine[0, 3] += affine[0, 0] * (SHAPE[0] - 1)
    affine[:, 0] *= -1
    affine = affine[:, [2, 0, 1, 3]]
    return Volume(np.ascontiguousarray(data), Grid(data.shape[1:], affine))


def resampled(image: Volume) -> Volume:
    """On a grid that is a fifth coarser."""
    data = ndimage.zoom(image.data[0], 0.8, order=3)[None]
    steps = np.array(image.data.shape[1:]) / data.shape[1:]
    return Volume(data, Grid(data.shape[1:], image.grid.affine @ np.diag([*steps, 1.0])))


def windowed(image: Volume) -> Volume:
    """As 256 grey values, the brightest and darkest cut off."""
    low, high = np.percentile(image.data, (1, 99))
    grey = np.clip((image.data - low) / (high - low), 0, 1) * 255
    return Volume(np.rint(grey).astype(np.float32), image.grid)


def noisy(image: Volume) -> Volume:
    noise = np.random.default_rng(9).normal(scale=0.05 * image.data.std(), size=image.data.shape)
    return Volume((image.data + noise).astype(np.float32), image.grid)


@pytest.mark.parametrize(
    ("change", "at_least"),
    [(turned, 0.99), (cut, 0.5), (resampled, 0.3), (windowed, 0.5), (noisy, 0.4)],
)
def test_a_copy_keeps_most_marks(change, at_least):
    original = scan(1)

    assert shared(original, change(original)) >= at_least


def test_scans_of_different_patients_share_hardly_any():
    assert shared(scan(1), scan(2)) < 0.03


def test_units_and_offsets_of_the_intensities_do_not_matter():
    original = scan(1)
    other = Volume(original.data * 0.5 - 1000, original.grid)

    assert shared(original, other) > 0.95


def test_a_mirrored_scan_is_another_one():
    original = scan(1)

    assert shared(original, Volume(original.data[:, ::-1].copy(), original.grid)) < 0.03


@pytest.mark.parametrize("shape", [(40, 40, 40), (5, 6, 7), (64, 64, 3)])
def test_a_scan_without_structure_or_room_has_no_marks(shape):
    flat = np.zeros((1, *shape), dtype=np.float32)

    assert scan_marks(Volume(flat, Grid(shape, np.diag([1.0, 1.0, 1.0, 1.0])))) == frozenset()
