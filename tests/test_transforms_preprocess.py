"""Orientation, spacing and intensity of what the network sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from tests.volumes_samples import OBLIQUE, SHAPE, STRAIGHT
from transforms import as_metatensor, preprocess
from transforms.preprocess import z_score


def image_of(values: list[float], affine=STRAIGHT) -> MetaTensor:
    """One channel whose voxels run along I."""
    data = np.array(values, dtype=np.float32).reshape(1, -1, 1, 1)
    return as_metatensor(data, affine)


def test_image_and_label_go_to_one_grid():
    rng = np.random.default_rng(0)
    case = {
        "image": as_metatensor(rng.normal(size=(4, *SHAPE)).astype(np.float32), OBLIQUE),
        "label": as_metatensor(rng.integers(0, 4, (1, *SHAPE), dtype=np.uint8), OBLIQUE),
    }

    result = preprocess(spacing_mm=(1.5, 1, 2), window_hu=None)(case)

    # ALS: I (5 x 1 mm) leads forward, J (7 x 1.5 mm) to the left, K (9 x 3 mm) up.
    # Right: 10.5 mm / 1.5 = 7; anterior: 5 mm / 1 = 5; superior: 27 mm / 2 = 13.5, rounded to 14.
    assert tuple(result["image"].shape) == (4, 7, 5, 14)
    assert tuple(result["label"].shape) == (1, 7, 5, 14)
    assert torch.equal(result["image"].affine, result["label"].affine)
    np.testing.assert_allclose(result["image"].pixdim, (1.5, 1, 2))
    assert result["image"].dtype == torch.float32
    assert result["label"].dtype == torch.uint8
    assert set(result["label"].unique().tolist()) == {0, 1, 2, 3}


def test_the_window_of_ct_becomes_0_to_1():
    case = {"image": image_of([-1000, -100, 0, 100, 300, 3000])}

    result = preprocess(spacing_mm=(1, 1.5, 3), window_hu=(-100, 300))(case)

    # (x + 100) / 400, clipped.
    np.testing.assert_allclose(result["image"].flatten(), [0, 0, 0.25, 0.5, 1, 1])


def test_each_channel_of_mri_is_scored_inside_its_own_brain():
    # Mean 2 and deviation 1 over 1, 3, 1, 3; mean 30 and deviation 10 over 20, 40.
    data = np.array([[0, 1, 3, 1, 3, 0], [0, 0, 20, 40, 0, 0]], np.float32).reshape(2, 6, 1, 1)

    result = preprocess(spacing_mm=(1, 1.5, 3), window_hu=None)(
        {"image": as_metatensor(data, STRAIGHT)}
    )

    expected = [[0, -1, 1, -1, 1, 0], [0, 0, -1, 1, 0, 0]]
    np.testing.assert_allclose(result["image"].reshape(2, 6), expected, atol=1e-6)


@pytest.mark.parametrize("values", [[0, 0, 0], [0.1, 0.1, 0.1], [0, 7, 0]])
def test_a_channel_without_contrast_becomes_0(values):
    assert z_score(image_of(values)).flatten().tolist() == [0, 0, 0]


def test_the_inputs_are_not_changed():
    values = [0, 1, 3, 40, 200]
    for window_hu in (None, (0.0, 100.0)):
        case = {"image": image_of(values), "label": image_of(values)}

        preprocess(spacing_mm=(1, 1.5, 3), window_hu=window_hu)(case)

        assert case["image"].flatten().tolist() == values
        assert case["label"].flatten().tolist() == values
        np.testing.assert_array_equal(case["image"].affine, STRAIGHT)


def test_keys_can_have_other_names_and_a_label_is_not_needed():
    transform = preprocess(spacing_mm=(1, 1, 1), window_hu=(0, 1), keys=("ct", "seg"))

    assert set(transform({"ct": image_of([0, 1])})) == {"ct"}


@pytest.mark.parametrize("spacing_mm", [(1, 1), (1, 0, 1), (1, 1, -2), (1, 1, float("nan"))])
def test_a_spacing_that_is_not_positive_is_refused(spacing_mm):
    with pytest.raises(ValueError, match="spacing_mm must be three positive numbers, found"):
        preprocess(spacing_mm=spacing_mm, window_hu=None)


def test_a_window_that_is_not_ordered_is_refused():
    with pytest.raises(ValueError, match=r"lower < upper, found \(300, -100\)"):
        preprocess(spacing_mm=(1, 1, 1), window_hu=(300, -100))


def test_a_metatensor_shares_the_array_s_memory_and_knows_its_affine():
    data = np.zeros((1, *SHAPE), dtype=np.float32)

    tensor = as_metatensor(data, OBLIQUE)
    data[0, 1, 2, 3] = 5

    assert tensor[0, 1, 2, 3] == 5
    assert tensor.affine.dtype == torch.float64
    np.testing.assert_array_equal(tensor.affine, OBLIQUE)


def test_read_only_and_flipped_arrays_are_copied():
    data = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    data.setflags(write=False)

    assert as_metatensor(data, STRAIGHT).flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert as_metatensor(data[:, ::-1], STRAIGHT).flatten().tolist() == [5, 4, 3, 2, 1, 0]
