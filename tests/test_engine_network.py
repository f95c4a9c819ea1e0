"""The network: shapes, determinism and what its scales mean."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from segfed.engine import UNet, build_network, read_plan, to_bytes
from segfed.engine.blocks import Convolution, Head, InstanceNorm, Upsample, build_level
from segfed.engine.network import network_arguments
from tests.engine_samples import sample_plan

VARIANTS = [{"group_norm": True}, {"residual": True}, {"group_norm": True, "residual": True}]


def test_networks_built_at_once_have_the_weights_of_their_seeds():
    plan = sample_plan(features=(32, 64, 128))
    alone = [to_bytes(build_network(plan, seed=seed).state_dict()) for seed in range(8)]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: build_network(plan, seed=seed), range(8)))

    assert [to_bytes(network.state_dict()) for network in together] == alone


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


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_norm_on_a_cpu_is_pytorchs_and_leaves_channels_last(channels_last):
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    image = torch.randn(3, 4, 5, 6, 7).contiguous(memory_format=layout)
    own, reference = InstanceNorm(4, affine=True), torch.nn.InstanceNorm3d(4, affine=True)
    for norm in (own, reference):
        torch.nn.init.constant_(norm.weight, 1.5)
        torch.nn.init.constant_(norm.bias, -0.5)
    inputs = [image.clone().requires_grad_() for _ in range(2)]

    found, expected = (norm(each) for norm, each in zip((own, reference), inputs, strict=True))
    for result in (found, expected):
        (result**3).sum().backward()

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own.weight.grad, reference.weight.grad, rtol=1e-4, atol=1e-3)
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    ("own", "reference"),
    [
        (Upsample(6, 4, (2, 1, 2)), torch.nn.ConvTranspose3d(6, 4, (2, 1, 2), stride=(2, 1, 2))),
        (Head(6, 3), torch.nn.Conv3d(6, 3, 1)),
    ],
)
def test_layers_on_a_cpu_compute_what_pytorchs_do(own, reference):
    reference.load_state_dict(own.state_dict())
    image = torch.randn(2, 6, 4, 5, 3).contiguous(memory_format=torch.channels_last_3d)
    inputs = [image.clone().requires_grad_() for _ in range(2)]

    found, expected = (layer(each) for layer, each in zip((own, reference), inputs, strict=True))
    for result in (found, expected):
        (result**3).sum().backward()

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-4)
    for parameter, other in zip(own.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-3)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_variant_is_a_plan_of_its_own_with_logits_on_the_voxels_of_the_image(changes):
    plan = sample_plan(features=(8, 16, 16), deep_supervision=True, **changes)

    network = UNet(**network_arguments(plan))
    scales = network.at_scales(torch.randn(2, 1, 16, 24, 16))

    assert [tuple(logits.shape) for logits in scales] == [(2, 3, 16, 24, 16)]
    assert plan.sha256 != sample_plan(features=(8, 16, 16), deep_supervision=True).sha256
    assert read_plan(plan.model_dump(mode="json")) == plan


def test_group_norm_evens_out_groups_of_channels():
    # 16 channels in 8 groups of 2: the mean over both is 0, that of each need not be.
    plan = sample_plan(features=(16, 24), group_norm=True)
    level = build_network(plan, seed=0).encoder[0]

    normed = level[1](level[0](torch.rand(1, 1, 16, 24, 16)))[0]

    assert normed.reshape(8, -1).mean(dim=1).abs().max() < 1e-5
    assert normed.reshape(16, -1).mean(dim=1).abs().max() > 1e-2


def test_a_residual_level_that_has_learned_nothing_passes_its_input_on():
    # The last norm of the long way is 0: what is left is the short cut, here no change at all.
    level = build_level(8, 8, kernel=(3, 3, 3), stride=(1, 1, 1), group_norm=False, residual=True)
    torch.nn.init.zeros_(level.convolutions[-1].weight)
    image = torch.rand(1, 8, 4, 4, 4)

    assert torch.equal(level(image), image)


@pytest.mark.parametrize("changes", [{}, *VARIANTS])
def test_no_state_but_weights(changes):
    # Running statistics would have to be averaged too, and would tell about single patients.
    network = build_network(sample_plan(**changes), seed=0)

    assert not list(network.buffers())
    assert len(network.state_dict()) == len(list(network.parameters()))


@pytest.mark.parametrize(
    ("shape", "stride", "expected"),
    [
        ((3, 5, 6), (1, 1, 1), torch.bfloat16),
        ((6, 6, 5), (2, 2, 2), torch.bfloat16),
        ((2, 5, 6), (1, 1, 1), torch.float32),
        ((6, 6, 4), (2, 2, 2), torch.float32),
    ],
)
def test_a_result_with_few_voxels_along_an_axis_is_computed_in_float32(shape, stride, expected):
    convolution = Convolution(4, 8, kernel=(3, 3, 3), stride=stride)
    image = torch.randn(1, 4, *shape)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = convolution(image.bfloat16())

    assert result.dtype == expected
    torch.testing.assert_close(
        result.float(), convolution(image.bfloat16().float()), atol=0.05, rtol=0.05
    )
