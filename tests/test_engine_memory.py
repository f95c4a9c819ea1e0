"""The memory model: against a count by hand, and against what training really allocates."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from segfed.engine import LocalTrainer, Plan, build_network, training_bytes
from segfed.engine.loss import segmentation_loss
from tests.engine_samples import sample_cases, sample_plan


def test_a_patch_takes_what_a_count_by_hand_gives():
    # In voxels V of the patch, with 1 channel, 3 classes and features 8, 16:
    #   image 1, level 0: 2 convolutions with their activations 4 x 8, level 1: 4 x 16 / 8 = 8,
    #   skip with upsampled 16, decoder 4 x 8 = 32: 89 V; 2 gradients of the largest, 16 each: 32 V;
    #   both in bfloat16: 2 x 121 = 242 bytes
    #   loss in float32: log-probability, probability, one-hot 3 x 3 x 4: 36 bytes
    #   the batch itself: float32 image and uint8 label 5 bytes
    plan = sample_plan(features=(8, 16), patch_voxels=(16, 24, 16))
    per_patch = (242 + 36 + 5) * 16 * 24 * 16

    grown = training_bytes(plan, batch_size=5) - training_bytes(plan, batch_size=4)

    # The model adds a tenth; norms keep two numbers a channel besides
    assert grown == pytest.approx(1.1 * per_patch, rel=1e-3)


def test_weights_count_too():
    wide, slim = sample_plan(features=(8, 400)), sample_plan(features=(8, 16))
    n_weights = [
        sum(w.numel() for w in build_network(p, seed=0).parameters()) for p in (wide, slim)
    ]

    at_no_patch = [
        2 * training_bytes(p, batch_size=1) - training_bytes(p, batch_size=2) for p in (wide, slim)
    ]

    # float32 weight, gradient and two moments, and a copy in bfloat16: 18 bytes, and a tenth
    expected = 1.1 * 18 * (n_weights[0] - n_weights[1])
    assert at_no_patch[0] - at_no_patch[1] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"features": (16, 32, 64), "patch_voxels": (32, 32, 32)},
        {"features": (16, 32), "patch_voxels": (32, 48, 32), "stem_stride": 2},
        {"features": (16, 32, 64), "patch_voxels": (32, 32, 32), "deep_supervision": True},
    ],
)
def test_a_step_allocates_what_was_predicted(changes):
    plan = sample_plan(batch_size=2, **changes)
    n_weights = sum(weight.numel() for weight in build_network(plan, seed=0).parameters())
    base = training_bytes(plan, batch_size=1) * 2 - training_bytes(plan, batch_size=2)
    predicted = (training_bytes(plan) - base) / 1.1 + 2 * n_weights

    measured = allocated(plan)

    # From above, but for blocks of a few bytes; and not by much
    assert 0.97 <= predicted / measured <= 1.2


def allocated(plan: Plan) -> int:
    """Most bytes that forward and backward pass and loss hold at once, weights left out."""
    network = build_network(plan, seed=0).to(memory_format=torch.channels_last_3d)
    image = torch.randn(plan.batch_size, 1, *plan.patch_voxels)
    label = torch.randint(0, 3, (plan.batch_size, *plan.patch_voxels))
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scales = network.at_scales(image)
        loss = segmentation_loss(scales[0], label, structures=plan.structures.values())
        loss.backward()
    held, most = 0, 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most + image.nbytes + label.nbytes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_holds_no_more_than_was_predicted():
    plan = sample_plan(features=(32, 64, 128, 256), patch_voxels=(96, 96, 96), batch_size=2)
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)

    network = build_network(plan, seed=0)
    LocalTrainer(plan, sample_cases(2), network=network, seed=0, total_steps=3, device=device).run(
        3
    )

    peak = torch.cuda.max_memory_reserved(device)
    assert 0.4 * training_bytes(plan) < peak < training_bytes(plan)
