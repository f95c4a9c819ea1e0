"""Rendered CT: tissue where the label says so, the scanner's defects, memory in slabs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segfed.phantom import ct
from segfed.phantom.kidneys import FIELD_MM, kidney_case
from segfed.phantom.scanner import Scanner
from segfed.volumes import Grid

CLEAN = Scanner(spacing_mm=(4.0, 4.5, 5.0))
GRID = CLEAN.grid(FIELD_MM)
LABEL = kidney_case(np.random.default_rng(2), GRID)


def render(scanner=CLEAN, *, label=LABEL, grid=GRID, seed=0):
    return ct.render_ct(label, grid, np.random.default_rng(seed), scanner)


def test_tissue_has_the_hu_of_its_kind():
    image = render()

    assert image.dtype == np.int16
    # Cortex 45 + 140 and medulla 40 + 75 HU at full contrast; the patient's factor has an SD of 8 %
    assert 110 < image[LABEL == 1].mean() < 190
    assert 40 < image[LABEL == 2].mean() < 100
    corners = image[[0, -1]][:, [0, -1]]
    assert (corners == -1000).all(), "air around the body"
    assert np.median(image) == pytest.approx(-100, abs=60), "most of a body slice is fat or air"


def test_kidneys_lie_in_fat():
    image = render()
    rim = ndimage.binary_dilation(LABEL > 0) & (LABEL == 0)

    assert np.median(image[rim]) == pytest.approx(-100, abs=15)


def test_contrast_phase_and_calibration_differ_by_scanner():
    late = render(CLEAN.model_copy(update={"enhancement": 0.5}))
    shifted = render(CLEAN.model_copy(update={"hu_shift": 20.0}))

    assert late[LABEL == 1].mean() < render()[LABEL == 1].mean() - 30
    # Clipping at -1024 plays no part above air
    assert shifted.astype(int) - render() == pytest.approx(20)


def test_noise_has_the_scanners_sd():
    noise = render(CLEAN.model_copy(update={"noise": 25.0})).astype(float) - render()

    # 200 000 voxels, every one correlated with its 8 neighbours: the SD is known to 1 %
    assert noise[np.abs(render()) < 100].std() == pytest.approx(25, rel=0.03)


def test_slabs_fit_together(monkeypatch):
    # Noise is drawn slab by slab; everything else must not show where slabs meet
    scanner = CLEAN.model_copy(update={"blur_mm": 4.0})
    whole = render(scanner)
    monkeypatch.setattr(ct, "_SLAB_VOXELS", 7 * GRID.shape[0] * GRID.shape[1])

    assert np.abs(render(scanner).astype(int) - whole).max() <= 1


def test_a_mask_in_another_voxel_order_gives_the_same_patient():
    # Axes of KiTS: first to the feet, then backwards, then to the left
    order = np.zeros((4, 4))
    order[2, 0], order[1, 1], order[0, 2], order[3, 3] = -5.0, -4.5, -4.0, 1.0
    turned = Grid(tuple(reversed(GRID.shape)), order)

    image = render(label=LABEL.transpose(2, 1, 0)[::-1, ::-1, ::-1], grid=turned)

    assert np.array_equal(image.transpose(2, 1, 0)[::-1, ::-1, ::-1], render())


def test_one_kidney_is_enough():
    single = LABEL.copy()
    single[: GRID.shape[0] // 2] = 0

    image = render(label=single)

    assert 110 < image[single == 1].mean() < 190
    # Bone reaches 420 HU; the spine is looked for beside the kidney, near the image's middle
    bone = np.argwhere(image > 250)
    assert abs(np.median(bone[:, 0]) - GRID.shape[0] / 2) < 8


def test_an_empty_label_is_refused():
    with pytest.raises(ValueError, match="without foreground"):
        render(label=np.zeros_like(LABEL))
