"""Random changes of training patches, on whatever device holds them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from transforms.geometry import mirror_, turn_
from transforms.intensity import change_intensity_


def augment(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    spacing_mm: Sequence[float],
    mirror_axes: Sequence[int],
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch rotated, scaled, mirrored and changed in intensity at random, sample by sample.

    Args:
        images: Shape (B, C, I, J, K), float32.
        labels: Shape (B, I, J, K), uint8; moves with its image.
        spacing_mm: Spacing along I, J and K, so that a rotation is one in mm.
        mirror_axes: Axes I, J, K (0, 1, 2) along which a sample may be mirrored.
        generator: Source of all randomness, on the CPU.

    Returns:
        New tensors of the same shapes; the inputs are not changed.
    """
    images, labels = images.clone(), labels.clone()
    turn_(images, labels, spacing_mm=spacing_mm, generator=generator)
    mirror_(images, labels, axes=mirror_axes, generator=generator)
    change_intensity_(images, generator=generator)
    return images, labels
