"""Rendered MR: zero outside the brain, lesions bright where radiologists look for them."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.phantom.mr import FIELD_MM, brain_case, render_mr
from segfed.phantom.scanner import Scanner

CLEAN = Scanner(spacing_mm=(3.0, 3.5, 4.0))
GRID = CLEAN.grid(FIELD_MM)
LABEL = brain_case(np.random.default_rng(0), GRID)
NECROSIS, EDEMA, ENHANCING = LABEL == 1, LABEL == 2, LABEL == 3


def render(scanner=CLEAN, seed=0):
    return render_mr(LABEL, GRID, np.random.default_rng(seed), scanner)


def test_the_parts_of_a_glioma_lie_in_each_other():
    assert all(part.any() for part in (NECROSIS, EDEMA, ENHANCING))
    places = [np.argwhere(part).mean(axis=0) for part in (NECROSIS, LABEL > 0)]
    # The core lies within a quarter radius of the edema's centre along each axis
    assert np.abs((places[0] - places[1]) * GRID.spacing_mm).max() < 15


def test_lesions_have_the_usual_size():
    for seed in range(6):
        label = brain_case(np.random.default_rng(seed), GRID)
        whole_ml = np.count_nonzero(label) * GRID.voxel_mm3 / 1000
        # Radii of 14 to 34 mm: 11 to 165 ml, give or take the irregular outline
        assert 7 < whole_ml < 210


def test_outside_the_brain_all_channels_are_zero_and_inside_none_is():
    image = render(CLEAN.model_copy(update={"noise": 0.05, "bias_field": 0.2}))

    brain = (image > 0).any(axis=0)
    assert image.shape == (4, *GRID.shape)
    assert ((image > 0).all(axis=0) == brain).all()
    assert brain[LABEL > 0].all()
    # An ellipsoid of 0.46, 0.47 and 0.46 of the field fills 4/3 pi 0.099 = 42 %
    assert brain.mean() == pytest.approx(0.42, abs=0.06)


def test_each_lesion_part_stands_out_in_its_channel():
    _, t1c, t2w, t2f = render()
    white = np.median(t1c[t1c > 0])

    assert t1c[ENHANCING].mean() > 1.2 * white
    assert t1c[NECROSIS].mean() < 0.7 * white
    assert t2f[EDEMA].mean() > 1.4 * np.median(t2f[t2f > 0])
    assert t2w[EDEMA].mean() > 1.4 * np.median(t2w[t2w > 0])


def test_gamma_changes_contrasts_and_the_bias_field_changes_places():
    def contrast(image):
        t1c = image[1].astype(float)
        return t1c[ENHANCING].mean() / t1c[EDEMA].mean()

    plain, dark = render(), render(CLEAN.model_copy(update={"gamma": 1.5}))
    biased = render(CLEAN.model_copy(update={"bias_field": 0.3}))
    inside = plain[0] > 50

    # A ratio r becomes r to the power 1.5; blurring and texture blur the means a little
    assert contrast(dark) == pytest.approx(contrast(plain) ** 1.5, rel=0.05)
    ratio = np.log(biased[0][inside] / plain[0][inside])
    assert 0.02 < ratio.std() < 0.4


def test_the_same_seed_gives_the_same_image():
    assert np.array_equal(render(seed=1), render(seed=1))
    assert not np.array_equal(render(seed=1), render(seed=2))
