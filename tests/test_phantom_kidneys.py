"""Synthetic kidneys: sizes that a radiologist would accept, and places that make sense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segfed.phantom.kidneys import CYST, FIELD_MM, KIDNEY, TUMOR, kidney_case
from segfed.phantom.scanner import Scanner

SCANNER = Scanner(spacing_mm=(4.0, 4.5, 5.0))
GRID = SCANNER.grid(FIELD_MM)


@pytest.fixture(scope="module")
def labels():
    return [kidney_case(np.random.default_rng(seed), GRID) for seed in range(10)]


def test_kidneys_have_the_volume_of_adult_kidneys(labels):
    # Adult kidneys with their lesions: 100 to 250 ml each without, tumors up to 230 ml more
    volumes_ml = [np.count_nonzero(label) * GRID.voxel_mm3 / 1000 for label in labels]

    assert min(volumes_ml) > 200
    assert max(volumes_ml) < 800


def test_there_is_one_kidney_on_each_side(labels):
    middle = GRID.shape[0] // 2
    for label in labels:
        share = np.count_nonzero(label[middle:] == KIDNEY) / np.count_nonzero(label == KIDNEY)
        assert 0.25 < share < 0.75


def test_every_case_has_a_tumor_that_touches_a_kidney(labels):
    for label in labels:
        near = ndimage.binary_dilation(label == KIDNEY, iterations=2)
        tumors, n_tumors = ndimage.label(label == TUMOR)
        assert n_tumors >= 1
        assert all((near & (tumors == number)).any() for number in range(1, n_tumors + 1))


def test_some_cases_have_cysts_and_some_have_none(labels):
    assert 0 < sum((label == CYST).any() for label in labels) < len(labels)


def test_the_hilum_opens_to_the_middle(labels):
    # Closing a kidney's outline fills the sinus: what it adds lies nearer to the midline than
    # the kidney does
    middle = GRID.shape[0] // 2
    for label in labels:
        left = label[:middle] > 0
        ball = ndimage.generate_binary_structure(3, 2)
        closed = ndimage.binary_closing(np.pad(left, 4), ball, iterations=3)[4:-4, 4:-4, 4:-4]
        added = closed & ~left
        assert np.count_nonzero(added) > 0.02 * np.count_nonzero(left)
        assert np.argwhere(added)[:, 0].mean() > np.argwhere(left)[:, 0].mean()


def test_larger_lesions_are_drawn_where_asked_for():
    def tumor_ml(scale):
        label = kidney_case(np.random.default_rng(1), GRID, lesion_scale=scale)
        return np.count_nonzero(label == TUMOR) * GRID.voxel_mm3 / 1000

    assert tumor_ml(1.2) > 1.3 * tumor_ml(0.9)


def test_the_voxel_order_plays_no_part_in_the_anatomy():
    turned = SCANNER.model_copy(update={"orientation": "LPS"}).grid(FIELD_MM)

    straight = kidney_case(np.random.default_rng(0), GRID)

    assert np.array_equal(kidney_case(np.random.default_rng(0), turned)[::-1, ::-1], straight)
