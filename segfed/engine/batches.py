"""What one training step sees: patches drawn from the cases, then augmented on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segfed.engine.cache import PreparedCase
from segfed.engine.clicks import with_simulated_clicks
from segfed.engine.network import UNet
from segfed.engine.plan import Plan
from segfed.engine.sampling import draw_batch
from transforms.augment import augment


@dataclass(frozen=True)
class Patches:
    """Patches of a step on their way to the device, not augmented yet."""

    images: torch.Tensor
    """Shape (B, C, I, J, K)."""

    labels: torch.Tensor
    """Shape (B, I, J, K)."""

    augmentation_seed: int
    click_seed: int


def draw_patches(
    cases: Sequence[PreparedCase], plan: Plan, *, rng: np.random.Generator, device: torch.device
) -> Patches:
    """Patches of randomly chosen cases, and what decides all that happens to them later.

    Args:
        cases: Cases to draw from.
        plan: The plan, for size and number of the patches.
        rng: Source of all randomness.
        device: Where the patches will go.
    """
    images, labels = draw_batch(
        cases, patch_voxels=plan.patch_voxels, batch_size=plan.batch_size, rng=rng
    )
    if device.type == "cuda":
        # Only from pinned memory does a copy run beside what the device computes.
        images, labels = images.pin_memory(), labels.pin_memory()
    augmentation, clicks = (int(rng.integers(2**63)) for _ in range(2))
    return Patches(images, labels, augmentation_seed=augmentation, click_seed=clicks)


def training_batch(
    patches: Patches, plan: Plan, network: UNet, *, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augmented images and labels of a step; with maps of clicks, if the plan takes clicks.

    Args:
        patches: What was drawn; not changed.
        plan: The plan.
        network: Answered by the simulated clicks; not changed.
        device: Where to compute.

    Returns:
        Images (B, C, I, J, K), channels last, and labels (B, I, J, K).
    """
    images, labels = augment(
        patches.images.to(device, non_blocking=True),
        patches.labels.to(device, non_blocking=True),
        spacing_mm=plan.spacing_mm,
        mirror_axes=plan.mirror_axes,
        generator=torch.Generator().manual_seed(patches.augmentation_seed),
    )
    if plan.click_target is not None:
        _, value = plan.click_target
        images = with_simulated_clicks(
            network, images, labels, value=value, seed=patches.click_seed
        )
    return images.contiguous(memory_format=torch.channels_last_3d), labels
