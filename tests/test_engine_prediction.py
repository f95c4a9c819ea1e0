"""Predictions land on the image's own grid, whatever that is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from segfed.engine import build_network, predict_label, predict_scores, validation_dice
from segfed.engine.prediction import MeanDice, prepared_image, validation_means
from segfed.engine.sliding import slide
from segfed.errors import OutOfMemoryError
from segfed.volumes import Grid, Volume
from tests.engine_samples import ellipsoid, sample_cases, sample_plan
from transforms import restore

CPU = torch.device("cpu")
# I runs down in steps of 2 mm, J to the left in steps of 1 mm, K to the front in steps of 1.5 mm.
AFFINE = np.array([[0, -1.0, 0, 20], [0, 0, 1.5, -7], [-2.0, 0, 0, 11], [0, 0, 0, 1]])


class Threshold(nn.Module):
    """Stands in for a trained network: class 1 where the first channel is above a threshold."""

    def __init__(self, threshold: float, *, margin: float = 4.0) -> None:
        super().__init__()
        self.threshold, self.margin = threshold, margin
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(image.shape))
        bright = (image[:, 0] - self.threshold).clamp(-1, 1) * self.margin
        return torch.stack([torch.zeros_like(bright), bright, torch.full_like(bright, -20)], dim=1)


def test_a_label_lands_on_a_flipped_permuted_anisotropic_grid():
    plan = sample_plan(patch_voxels=(16, 16, 16))
    inside = ellipsoid((21, 40, 26), np.array([8, 22, 15]), np.array([5, 9, 7]))
    image = Volume(
        np.where(inside, 900.0, 100.0)[None].astype(np.float32), Grid(inside.shape, AFFINE)
    )

    # Half-way between the two intensities, as z-scores
    threshold = (500 - image.data.mean()) / image.data.std()

    predicted = predict_label([Threshold(threshold)], plan, image, device=CPU)

    assert predicted.data.dtype == np.uint8
    assert predicted.grid.matches(image.grid)
    both = np.count_nonzero(inside & (predicted.data[0] == 1))
    # Resampling to 1 mm and back moves the border by less than half a voxel.
    assert 2 * both / (inside.sum() + predicted.data.sum()) > 0.95


def test_where_the_grids_coincide_every_voxel_is_exact():
    plan = sample_plan(patch_voxels=(8, 8, 8))
    rng = np.random.default_rng(0)
    bright = rng.random((19, 13, 11)) < 0.5
    flipped = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = Volume(np.where(bright, 3.0, 1.0)[None].astype(np.float32), Grid(bright.shape, flipped))

    predicted = predict_label([Threshold(0.0)], plan, image, device=CPU)

    assert np.array_equal(predicted.data[0] == 1, bright)


def test_an_ensemble_averages_probabilities_and_not_votes():
    # One network is sure of class 1, two are a little against it: the mean of the probabilities
    # 1.00, 0.38 and 0.38 is above one half, the majority against.
    plan = sample_plan(patch_voxels=(8, 8, 8))
    image = torch.ones(1, 8, 8, 8)
    sure, unsure = Threshold(0.0, margin=20), Threshold(2.0, margin=0.5)

    scores = predict_scores([sure, unsure, unsure], plan, image, device=CPU)

    expected = (1 + 2 / (1 + np.exp(0.5))) / 3
    assert scores[1].numpy() == pytest.approx(expected, abs=1e-5)


def test_probabilities_add_up_to_one_everywhere():
    plan = sample_plan(patch_voxels=(8, 12, 8))
    image = torch.randn(1, 23, 17, 9)

    scores = predict_scores([Threshold(0.0)], plan, image, device=CPU)

    assert scores.shape == (3, 23, 17, 9)
    assert torch.allclose(scores.sum(dim=0), torch.ones(23, 17, 9), atol=1e-5)


def test_only_the_box_around_the_content_is_computed():
    plan = sample_plan(patch_voxels=(8, 8, 8))
    image = torch.zeros(1, 40, 40, 40)
    image[0, 10:18, 20:28, 5:13] = 1
    network = Threshold(0.5)

    scores = predict_scores([network], plan, image, device=CPU)

    # One window; with a single thread it is computed twice, which is faster
    assert [shape[1:] for shape in network.shapes] == [(1, 8, 8, 8)]
    assert network.shapes[0][0] == (2 if torch.get_num_threads() == 1 else 1)
    assert (scores.argmax(dim=0) == 1).sum() == 8**3
    assert scores[0, 0, 0, 0] == 1


def test_a_label_is_that_of_the_scores_of_the_whole_image():
    # A body in air on a grid of its own: its label is made slab by slab, from inside its box only.
    plan = sample_plan(patch_voxels=(8, 8, 8), spacing_mm=(1.5, 1.0, 2.0))
    data = np.zeros((1, 30, 26, 34), dtype=np.float32)
    data[0, 6:25, 3:20, 9:31] = np.random.default_rng(0).normal(size=(19, 17, 22))
    image = Volume(data, Grid(data.shape[1:], AFFINE))
    seen = prepared_image(plan, image)
    scores = predict_scores([Threshold(0.0)], plan, seen.as_tensor(), device=CPU)

    label = predict_label([Threshold(0.0)], plan, image, device=CPU)

    expected = restore(
        scores, affine=seen.affine, target_affine=AFFINE, target_shape=data.shape[1:]
    )
    assert np.array_equal(label.data[0], expected.numpy())
    assert 0 < (label.data == 1).mean() < 0.5


class RightIsBright(nn.Module):
    """Class 1 in the right half of the window, whatever the window shows."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(image), 3, *image.shape[2:])
        logits[:, 1, : image.shape[2] // 2] = -20
        logits[:, 1, image.shape[2] // 2 :] = 20
        return logits


def test_mirrored_predictions_are_averaged():
    # Mirrored along I the right half is the left one: the mean of 1 and 0 (1/3 each where nothing
    # is decided stays out of it) is the same on both sides. Along J nothing changes.
    plan = sample_plan(patch_voxels=(8, 8, 8))
    image = torch.ones(1, 8, 8, 8)

    both, along_j = (
        torch.cat(list(slide([RightIsBright()], plan, image, device=CPU, mirror_axes=axes)), dim=1)
        for axes in ((0,), (1,))
    )

    assert both[1].numpy() == pytest.approx(0.5, abs=1e-6)
    assert along_j[1, 4:].numpy() == pytest.approx(1, abs=1e-6)
    assert along_j[1, :4].numpy() == pytest.approx(0, abs=1e-6)


def test_scores_are_held_for_one_window_at_a_time():
    plan = sample_plan(patch_voxels=(8, 8, 8))

    slabs = list(slide([Threshold(0.0)], plan, torch.randn(1, 50, 8, 8), device=CPU))

    assert sum(slab.shape[1] for slab in slabs) == 50
    assert max(slab.shape[1] for slab in slabs) <= 8


def test_a_device_that_is_too_small_is_answered_in_words():
    def exhausted(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has")

    network = Threshold(0.0)
    network.forward = exhausted

    with pytest.raises(OutOfMemoryError, match=r"CUDA out of memory.*--device cpu.*patch_voxels"):
        predict_scores([network], sample_plan(), torch.ones(1, 20, 24, 16), device=CPU)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_an_image_without_contrast_is_background(value):
    image = Volume(np.full((1, 9, 8, 7), value, dtype=np.float32), Grid((9, 8, 7), np.eye(4)))

    predicted = predict_label([Threshold(0.5)], sample_plan(), image, device=CPU)

    assert predicted.data.sum() == 0


def test_one_slice_of_10_mm_is_predicted():
    plan = sample_plan(spacing_mm=(1.0, 1.0, 10.0), strides=((2, 2, 1),), patch_voxels=(16, 16, 1))
    data = np.random.default_rng(0).normal(size=(1, 30, 22, 1)).astype(np.float32)
    image = Volume(data, Grid(data.shape[1:], np.diag([1.0, 1.0, 10.0, 1.0])))

    predicted = predict_label([build_network(plan, seed=0)], plan, image, device=CPU)

    assert predicted.data.shape == (1, 30, 22, 1)
    assert predicted.data.max() <= 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_gives_the_label_that_a_cpu_gives():
    plan = sample_plan(patch_voxels=(16, 16, 16))
    data = np.random.default_rng(0).normal(size=(1, 40, 22, 31)).astype(np.float32)
    image = Volume(data, Grid(data.shape[1:], AFFINE))
    labels = [
        predict_label([build_network(plan, seed=0)], plan, image, device=torch.device(name)).data
        for name in ("cpu", "cuda")
    ]

    # Random weights are sure of nothing: bfloat16 decides some voxels otherwise.
    assert (labels[0] == labels[1]).mean() > 0.97


def test_a_network_can_be_trained_after_it_predicted():
    plan = sample_plan()
    network = build_network(plan, seed=0)

    predict_scores([network], plan, torch.randn(1, 16, 24, 16), device=CPU)
    network(torch.randn(1, 1, 16, 24, 16)).sum().backward()

    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_image_is_not_changed():
    data = np.random.default_rng(0).normal(size=(1, 9, 8, 7)).astype(np.float32)
    image = Volume(data.copy(), Grid((9, 8, 7), np.eye(4)))

    predict_label([Threshold(0.5)], sample_plan(), image, device=CPU)

    assert np.array_equal(image.data, data)


def test_a_mean_dice_says_how_many_cases_define_it():
    # Nothing is predicted: the pebble is missed in the first case and absent from the second.
    plan, (labelled, other) = sample_plan(), sample_cases(2)
    cases = [labelled, replace(other, label=np.zeros_like(other.label))]
    nothing = Threshold(1000.0)

    means = validation_means(nothing, plan, cases, device=CPU)

    assert means["pebble"] == MeanDice(mean=0.0, n_cases=1)
    assert validation_dice(nothing, plan, cases, device=CPU) == {"pebble": 0.0, "core": 0.0}
    empty = validation_means(nothing, plan, cases[1:], device=CPU)["pebble"]
    assert np.isnan(empty.mean)
    assert empty.n_cases == 0
