"""Clicks lie where the reader pointed, whatever the grid, and the network learns to follow them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from segfed.engine import (
    Clicks,
    LocalTrainer,
    build_network,
    dice_after_clicks,
    predict_scores,
    prepared_image,
    refined_scores,
    with_click_inputs,
)
from segfed.engine.clicks import click_maps, next_click, with_next_click, with_simulated_clicks
from segfed.volumes import Grid, Volume
from tests.engine_samples import SHAPE, ellipsoid, sample_cases, sample_plan

CPU = torch.device("cpu")
# I runs down in steps of 2 mm, J to the left in steps of 1 mm, K to the front in steps of 1.5 mm.
AFFINE = np.array([[0, -1.0, 0, 20], [0, 0, 1.5, -7], [-2.0, 0, 0, 11], [0, 0, 0, 1]])


def click_plan(**changes):
    return sample_plan(click_label="core", **changes)


def test_a_click_is_a_gaussian_around_its_voxel():
    foreground, background, _ = click_maps(
        Clicks(((5, 6, 7),), ((0, 0, 0), (1, 0, 0))), (16, 14, 12)
    )

    assert np.unravel_index(int(foreground.argmax()), (16, 14, 12)) == (5, 6, 7)
    assert foreground.max() == 1
    # One voxel away, with a deviation of 1.5 voxels: exp(-1/2 (1/1.5)²)
    for neighbour in ((4, 6, 7), (6, 6, 7), (5, 7, 7), (5, 6, 6)):
        assert foreground[neighbour] == pytest.approx(math.exp(-2 / 9), rel=1e-5)
    assert foreground[15, 6, 7] < 1e-4
    # Of two clicks beside each other the nearer counts: they do not add up.
    assert background[0, 0, 0] == background[1, 0, 0] == 1


def test_without_clicks_and_far_outside_the_maps_are_zero():
    assert not click_maps(Clicks(), (5, 6, 7)).any()
    assert not click_maps(Clicks(((50, 0, 0),), ((0, -50, 0),)), (5, 6, 7)).any()


def test_a_click_keeps_its_place_on_a_flipped_permuted_anisotropic_grid():
    ras = np.diag([1.0, 1.0, 2.0, 1.0])
    ras[:3, 3] = (10, -5, 1)

    moved = Clicks(((3, 4, 5),)).on_grid(AFFINE, ras)

    # Right -4 + 20 = 16 mm, anterior 7.5 - 7 = 0.5 mm, superior -6 + 11 = 5 mm
    assert moved.foreground == (pytest.approx((6, 5.5, 2)),)
    assert moved.on_grid(ras, AFFINE).foreground == (pytest.approx((3, 4, 5)),)
    assert moved.from_corner((6, 5, 1)).foreground == (pytest.approx((0, 0.5, 1)),)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.5, 2.0), (2.0, 2.0, 2.0)])
def test_the_network_sees_a_click_where_it_sees_what_was_clicked(spacing_mm):
    voxel, data = (4, 17, 9), np.zeros((1, 12, 22, 14), dtype=np.float32)
    data[(0, *voxel)] = 1000
    plan = click_plan(spacing_mm=spacing_mm)
    prepared = prepared_image(
        plan.model_copy(update={"window_hu": (0, 1000)}),
        Volume(data, Grid(data.shape[1:], AFFINE)),
    )

    clicks = Clicks((voxel,)).on_grid(AFFINE, prepared.affine)

    image = prepared.numpy()[0]
    seen = np.unravel_index(image.argmax(), image.shape)
    # On the image's own spacing exactly there; on a coarser grid in one of the nearest voxels.
    tolerance = 1e-6 if spacing_mm == (1.0, 1.5, 2.0) else 0.5 + 1e-6
    assert np.abs(np.subtract(clicks.foreground[0], seen)).max() <= tolerance


def test_the_next_click_is_deep_in_the_largest_error():
    truth = np.zeros((20, 18, 16), dtype=bool)
    truth[2:9, 2:9, 2:9] = True  # missed altogether: 343 voxels, centre at 5
    truth[15:18, 12:15, 10:13] = True
    predicted = np.zeros_like(truth)
    predicted[15:18, 12:15, 10:13] = True
    predicted[12:15, 2:5, 2:5] = True  # invented, but smaller

    assert next_click(truth, predicted) == ((5, 5, 5), True)
    predicted[2:9, 2:9, 2:9] = True
    assert next_click(truth, predicted) == ((13, 3, 3), False)
    predicted[12:15, 2:5, 2:5] = False
    assert next_click(truth, predicted) is None


def test_a_missed_and_an_invented_part_side_by_side_are_two_errors():
    truth, predicted = np.zeros((2, 12, 7, 5), dtype=bool)
    truth[1:4] = True
    predicted[4:9] = True

    (i, _, _), is_foreground = next_click(truth, predicted)

    assert (i, is_foreground) == (6, False)
    clicks = with_next_click(Clicks(((1, 1, 1),)), truth, predicted)
    assert (len(clicks.foreground), len(clicks.background)) == (1, 1)


def test_a_random_click_is_in_the_error_and_not_at_its_border():
    truth = ellipsoid((20, 18, 16), np.array([9, 8, 8]), np.array([7, 6, 5]))
    rng = np.random.default_rng(0)

    found = [next_click(truth, np.zeros_like(truth), rng=rng) for _ in range(20)]

    assert len({position for position, _ in found}) > 5
    for position, is_foreground in found:
        assert is_foreground
        index = np.array(position, dtype=int)
        assert truth[tuple(slice(x - 1, x + 2) for x in index)].all()


class Constant(nn.Module):
    """Predicts one class everywhere."""

    def __init__(self, value: int) -> None:
        super().__init__()
        self.value = value

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(image), 3, *image.shape[2:])
        logits[:, self.value] = 1
        return logits


@pytest.mark.parametrize("value", [0, 2])
def test_simulated_clicks_answer_what_the_network_gets_wrong(value):
    (case,) = sample_cases(1)
    images = torch.from_numpy(case.image)[None]
    labels = torch.from_numpy(case.label)[None].long()
    n_used = [0, 0]
    for seed in range(40):
        inputs = with_simulated_clicks(Constant(value), images, labels, value=2, seed=seed)
        assert torch.equal(inputs[:, :1], images)
        on, beside = (inputs[0, channel] == 1 for channel in (1, 2))
        assert (labels[0][on] == 2).all()
        assert (labels[0][beside] != 2).all()
        n_used[0] += bool(on.any())
        n_used[1] += bool(beside.any())

    # A quarter of the batches have none; nobody clicks beside what was not found.
    assert 20 < max(n_used) < 38
    assert (n_used[1] == 0) == (value == 0)


@pytest.mark.parametrize("changes", [{}, {"stem_stride": 2}, {"residual": True}])
def test_new_inputs_begin_without_effect(changes):
    before = build_network(sample_plan(**changes), seed=0)
    after = build_network(click_plan(**changes), seed=1)
    after.load_state_dict(with_click_inputs(before.state_dict(), after))
    image, maps = torch.randn(1, 1, 16, 24, 16), torch.rand(1, 3, 16, 24, 16)

    with torch.no_grad():
        torch.testing.assert_close(after(torch.cat([image, maps], dim=1)), before(image))


def test_only_what_lies_near_the_clicks_is_computed_anew():
    plan = click_plan(patch_voxels=(8, 8, 8), features=(4, 8))
    network, image = build_network(plan, seed=0), torch.rand(1, 30, 12, 12) + 0.1
    start = predict_scores([network], plan, image, device=CPU)
    before = start.clone()

    refined = refined_scores(
        [network], plan, image, start, clicks=Clicks(((6, 5, 5),), ((9, 6, 6),)), device=CPU
    )

    changed = (refined != start).any(dim=0).any(dim=2).any(dim=1).nonzero()[:, 0].tolist()
    # Half a patch before the first click and behind the last: 6 - 4 up to 9 + 4
    assert (changed[0], changed[-1]) == (2, 12)
    assert torch.equal(start, before)


def twins(n_cases: int) -> list:
    """Cases with two bright balls alike, of which only one, drawn by lot, is the core."""
    cases = []
    for index, case in enumerate(sample_cases(n_cases)):
        rng = np.random.default_rng(index)
        balls = [ellipsoid(SHAPE, np.array([10, j, 8]), np.full(3, 3.5)) for j in (6, 17)]
        label = np.where(balls[int(rng.integers(2))], 2, 0).astype(np.uint8)
        image = 2.0 * (balls[0] | balls[1]) + rng.normal(scale=0.1, size=SHAPE)
        positions = np.insert(np.argwhere(label == 2), 0, 2, axis=1).astype(np.int32)
        cases.append(
            replace(case, image=image[None].astype(np.float32), label=label, positions=positions)
        )
    return cases


def test_training_teaches_to_follow_a_click():
    plan = click_plan(structures={"core": [2]}, mirror_axes=(), features=(8, 16, 16))
    network, cases = build_network(plan, seed=0), twins(14)
    trainer = LocalTrainer(plan, cases[:10], network=network, seed=0, total_steps=150, device=CPU)

    trainer.run(150)

    rows = [
        dice_after_clicks(network, plan, case, value=2, n_clicks=2, device=CPU)
        for case in cases[10:]
    ]
    without, *_, after = np.mean(rows, axis=0)
    # Nothing in the image says which ball it is: both or none give 2/3 or less.
    assert without < 0.7
    assert after > 0.8
