"""Random changes of training patches, a whole batch at a time on whatever device holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import affine_grid, avg_pool3d, grid_sample

# How often a sample is changed, and by how much. Ranges as nnU-Net's, narrowed where a patch of a
# few dozen voxels would lose the structure.
_GEOMETRY_PROBABILITY = 0.35
_ROTATION_DEGREES = 20.0
_SCALE = (0.8, 1.25)
# A patch that is so much longer than thick, in voxels, turns in its plane only, as in nnU-Net: any
# other rotation would move most of it out of itself.
_THIN_RATIO = 3.0
_INTENSITY_PROBABILITY = 0.3
_BLUR_PROBABILITY = 0.1


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
        labels: Shape (B, I, J, K), int64; moves with its image and stays integer.
        spacing_mm: Spacing along I, J and K, so that a rotation is one in mm.
        mirror_axes: Axes I, J, K (0, 1, 2) along which a sample may be mirrored.
        generator: Source of all randomness, on any device.

    Returns:
        New tensors of the same shapes; the inputs are not changed.
    """
    images, labels = turn(images, labels, spacing_mm=spacing_mm, generator=generator)
    images, labels = mirror(images, labels, axes=mirror_axes, generator=generator)
    return change_intensity(images, generator=generator), labels


def turn(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    spacing_mm: Sequence[float],
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some samples rotated about a random axis and scaled, about the patch's centre.

    A thin patch rotates about its short axis, and keeps its scale along that.

    Interpolates images linearly and labels to the nearest voxel; what comes from outside the patch
    is 0, as it is around a case that is smaller than its patch.
    """
    chosen = (_uniform(len(images), generator) < _GEOMETRY_PROBABILITY).nonzero()[:, 0]
    if len(chosen) == 0:
        return images, labels
    size = images.shape[2:]
    sides_mm = [edge * mm for edge, mm in zip(size, spacing_mm, strict=True)]
    thin = size.index(min(size)) if max(size) > _THIN_RATIO * min(size) else None
    matrices = _random_matrices(len(chosen), sides_mm, generator, thin_axis=thin).to(images)
    chosen = chosen.to(images.device)
    picked = images[chosen]
    grid = affine_grid(matrices, list(picked.shape), align_corners=False)
    moved = grid_sample(picked, grid, align_corners=False)
    moved_labels = grid_sample(
        labels[chosen][:, None].to(picked.dtype), grid, mode="nearest", align_corners=False
    )
    return (
        images.index_copy(0, chosen, moved),
        labels.index_copy(0, chosen, moved_labels[:, 0].to(labels.dtype)),
    )


def mirror(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    axes: Sequence[int],
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sample mirrored along each of the axes with probability one half."""
    for axis in axes:
        flipped = (_uniform(len(images), generator) < 0.5).to(images.device)
        images = torch.where(flipped[:, None, None, None, None], images.flip(axis + 2), images)
        labels = torch.where(flipped[:, None, None, None], labels.flip(axis + 1), labels)
    return images, labels


def change_intensity(images: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    """Contrast, brightness, gamma, blur and noise changed at random, each in some samples.

    Ranges are relative to each channel's own deviation, so that they suit windows of CT and
    z-scores of MR alike.
    """
    size, channels = images.shape[:2]

    def factor(low: float, high: float, neutral: float) -> torch.Tensor:
        """One factor a channel, neutral in the samples that are left alone."""
        drawn = low + (high - low) * _uniform((size, channels), generator)
        apply = _uniform((size, 1), generator) < _INTENSITY_PROBABILITY
        return torch.where(apply, drawn, neutral)[:, :, None, None, None].to(images)

    deviation, mean = torch.std_mean(images, dim=(2, 3, 4), keepdim=True)
    images = (images - mean) * factor(0.7, 1.4, 1.0) + mean
    images = images + deviation * factor(-0.3, 0.3, 0.0)
    images = _gamma(images, factor(0.7, 1.5, 1.0))
    blurred = _uniform(size, generator) < _BLUR_PROBABILITY
    if blurred.any():
        blurred = blurred.to(images.device)
        images = torch.where(blurred[:, None, None, None, None], _blur(images), images)
    strength = factor(0.0, 0.2, 0.0) * deviation
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    return images + strength * noise.to(images)


def _gamma(images: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Intensities bent between the darkest and the brightest of each channel."""
    darkest = images.amin(dim=(2, 3, 4), keepdim=True)
    width = (images.amax(dim=(2, 3, 4), keepdim=True) - darkest).clamp(min=1e-6)
    return ((images - darkest) / width).clamp(0, 1).pow(exponent) * width + darkest


def _blur(images: torch.Tensor) -> torch.Tensor:
    """A mean over 3x3x3 voxels, about what a slightly softer reconstruction kernel does."""
    return avg_pool3d(images, kernel_size=3, stride=1, padding=1, count_include_pad=False)


def _random_matrices(
    size: int, sides_mm: Sequence[float], generator: torch.Generator, *, thin_axis: int | None
) -> torch.Tensor:
    """Rotations with scaling (size, 3, 4) in the coordinates of ``affine_grid``."""
    axis = torch.randn((size, 3), generator=generator, device=generator.device)
    scaled = torch.ones(3, dtype=torch.bool, device=generator.device)
    if thin_axis is not None:
        # affine_grid's order is K, J, I
        scaled[2 - thin_axis] = False
        axis[:, scaled] = 0
    axis = torch.nn.functional.normalize(axis, dim=1)
    angle = (2 * _uniform((size, 1, 1), generator) - 1) * math.radians(_ROTATION_DEGREES)
    cross = torch.zeros((size, 3, 3), device=generator.device)
    for row, column, source, sign in ((0, 1, 2, -1), (0, 2, 1, 1), (1, 2, 0, -1)):
        cross[:, row, column] = sign * axis[:, source]
        cross[:, column, row] = -sign * axis[:, source]
    # Rodrigues' formula
    rotation = torch.eye(3, device=generator.device) + angle.sin() * cross
    rotation = rotation + (1 - angle.cos()) * cross @ cross
    low, high = map(math.log, _SCALE)
    scale = (low + (high - low) * _uniform((size, 1, 1), generator)).exp()
    # affine_grid runs from -1 to 1 along every axis, in the order K, J, I: a rotation in mm must be
    # stretched by the ratio of the patch's sides.
    sides = torch.tensor([*reversed(sides_mm)], dtype=torch.float32, device=generator.device)
    scales = torch.where(scaled[:, None] & scaled, scale, 1.0)
    stretched = rotation * scales * sides[None, :] / sides[:, None]
    return torch.cat([stretched, torch.zeros((size, 3, 1), device=generator.device)], dim=2)


def _uniform(shape: int | tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Random numbers from 0 to 1."""
    return torch.rand(shape, generator=generator, device=generator.device)
