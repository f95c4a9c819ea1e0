"""The network: shapes, determinism and what its scales mean."""

from __future__ import annotations

import pytest
import torch

from segfed.engine import build_network
from tests.engine_samples import sample_plan


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_logits_lie_on_the_voxels_of_the_image(stem_stride):
    plan = sample_plan(stem_stride=stem_stride, channels=("t1", "t2"))

    logits = build_network(plan, seed=0)(torch.zeros(2, 2, 16, 24, 12))

    assert logits.shape == (2, 3, 16, 24, 12)  # background, shell, core


def test_the_stem_at_half_resolution_loses_no_voxel():
    network = build_network(sample_plan(stem_stride=2), seed=0)
    image = torch.randn(1, 1, 16, 24, 16)
    changed = image.clone()
    changed[0, 0, 5, 6, 7] += 1

    assert not torch.equal(network(image), network(changed))


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
    plan = sample_plan()
    torch.manual_seed(5)
    expected = torch.rand(1)

    torch.manual_seed(5)
    first, second, other = (build_network(plan, seed=seed).state_dict() for seed in (1, 1, 2))

    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_deep_supervision_adds_logits_at_half_resolution():
    # 3 levels: the decoder has 2, and both are supervised but for the coarsest of them
    plan = sample_plan(features=(4, 8, 8, 8), deep_supervision=True, patch_voxels=(16, 24, 16))

    scales = build_network(plan, seed=0).at_scales(torch.zeros(1, 1, 16, 24, 16))

    assert [tuple(logits.shape[2:]) for logits in scales] == [(16, 24, 16), (8, 12, 8)]


def test_thick_slices_keep_their_number_until_a_level_halves_them():
    plan = sample_plan(
        spacing_mm=(1, 1, 4),
        features=(4, 8, 8, 8),
        strides=((2, 2, 1), (2, 2, 2), (2, 2, 1)),
        deep_supervision=True,
        patch_voxels=(16, 24, 6),
    )

    scales = build_network(plan, seed=0).at_scales(torch.zeros(1, 1, 16, 24, 6))

    assert [tuple(logits.shape[2:]) for logits in scales] == [(16, 24, 6), (8, 12, 6)]


def test_a_level_of_thick_slices_looks_at_each_by_itself():
    plan = sample_plan(spacing_mm=(1, 1, 4), strides=((2, 2, 1),), patch_voxels=(16, 16, 6))
    first = build_network(plan, seed=0).encoder[0][0]
    image = torch.randn(1, 1, 16, 16, 6)
    changed = image.clone()
    changed[..., 2] += 1

    moved = (first(image) != first(changed)).any(dim=(0, 1, 2, 3))

    assert moved.tolist() == [False, False, True, False, False, False]


def test_no_state_but_weights():
    # Running statistics would have to be averaged too, and would tell about single patients.
    network = build_network(sample_plan(), seed=0)

    assert not list(network.buffers())
    assert len(network.state_dict()) == len(list(network.parameters()))
