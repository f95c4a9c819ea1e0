"""Random changes of training patches, on whatever device holds them.

What is done to which sample is decided on the CPU, so that a GPU never waits for an answer, and so
that every device does the same. Only samples that are changed cost time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import avg_pool3d, grid_sample

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

# At most so many threads share the resampling of a patch.
_PARTS = 8


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
        generator: Source of all randomness, on the CPU.

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
    chosen = (_uniform(len(images), generator) < _GEOMETRY_PROBABILITY).nonzero()[:, 0].tolist()
    size = images.shape[2:]
    sides_mm = [edge * mm for edge, mm in zip(size, spacing_mm, strict=True)]
    thin = size.index(min(size)) if max(size) > _THIN_RATIO * min(size) else None
    matrices = _random_matrices(len(chosen), sides_mm, generator, thin_axis=thin).to(images)
    turned, turned_labels = list(images), list(labels)
    for n, matrix in zip(chosen, matrices, strict=True):
        grid = _grid(matrix, size)
        turned[n] = _sampled(images[n], grid, mode="bilinear")
        moved = _sampled(labels[n][None].to(images.dtype), grid, mode="nearest")
        turned_labels[n] = moved[0].to(labels.dtype)
    return torch.stack(turned), torch.stack(turned_labels)


def _grid(matrix: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """What ``affine_grid`` gives for one matrix (3, 4): (I, J, K, 3). Sums instead of a product."""
    i, j, k = ((2 * torch.arange(n).to(matrix) + 1) / n - 1 for n in size)
    first, second, third, shift = matrix.T
    planes, rows = i[:, None] * third, j[:, None] * second
    grid: torch.Tensor = (k[:, None] * first + shift) + rows[:, None] + planes[:, None, None]
    return grid


def _sampled(image: torch.Tensor, grid: torch.Tensor, *, mode: str) -> torch.Tensor:
    """An image (C, I, J, K) at the places of a grid (I, J, K, 3)."""
    # On a CPU one thread takes one sample, so that a sample has to be many: parts of its planes.
    n_parts = math.gcd(len(grid), _PARTS)
    grid = grid.reshape(n_parts, -1, *grid.shape[1:])
    parts = image.expand(n_parts, *image.shape)
    found = grid_sample(parts, grid, mode=mode, align_corners=False)
    return found.movedim(0, 1).reshape(image.shape)


def mirror(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    axes: Sequence[int],
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sample mirrored along each of the axes with probability one half."""
    flips = [_uniform(len(images), generator) < 0.5 for _ in axes]
    mirrored, mirrored_labels = list(images), list(labels)
    for n in range(len(images)):
        chosen = [axis for axis, flipped in zip(axes, flips, strict=True) if flipped[n]]
        mirrored[n] = images[n].flip([axis + 1 for axis in chosen])
        mirrored_labels[n] = labels[n].flip(chosen)
    return torch.stack(mirrored), torch.stack(mirrored_labels)


def change_intensity(images: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    """Contrast, brightness, gamma, blur and noise changed at random, each in some samples.

    Ranges are relative to each channel's own deviation, so that they suit windows of CT and
    z-scores of MR alike.
    """
    size, channels = images.shape[:2]

    def factors(low: float, high: float) -> list[torch.Tensor | None]:
        """For each sample one factor a channel, or none where it is left alone."""
        drawn = low + (high - low) * _uniform((size, channels, 1, 1, 1), generator)
        applied = _uniform(size, generator) < _INTENSITY_PROBABILITY
        return [
            value.to(images) if apply else None for value, apply in zip(drawn, applied, strict=True)
        ]

    contrast, brightness, exponent = factors(0.7, 1.4), factors(-0.3, 0.3), factors(0.7, 1.5)
    blurred = _uniform(size, generator) < _BLUR_PROBABILITY
    strength = factors(0.0, 0.2)
    noise_seed = int(torch.randint(2**62, (1,), generator=generator))
    noise = torch.Generator(images.device).manual_seed(noise_seed)
    return torch.stack(
        [
            _changed(
                image,
                contrast=contrast[n],
                brightness=brightness[n],
                exponent=exponent[n],
                blurred=bool(blurred[n]),
                strength=strength[n],
                noise=noise,
            )
            for n, image in enumerate(images)
        ]
    )


def _changed(
    image: torch.Tensor,
    *,
    contrast: torch.Tensor | None,
    brightness: torch.Tensor | None,
    exponent: torch.Tensor | None,
    blurred: bool,
    strength: torch.Tensor | None,
    noise: torch.Generator,
) -> torch.Tensor:
    """One image (C, I, J, K), changed by factors (C, 1, 1, 1) where there are any."""
    # Not std_mean, which takes longer than all the rest.
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    deviation = (image - mean).square_().mean(dim=(1, 2, 3), keepdim=True).sqrt_()
    if contrast is not None:
        image = torch.addcmul(mean * (1 - contrast), image, contrast)
    if brightness is not None:
        image = image + deviation * brightness
    if exponent is not None:
        image = _gamma(image, exponent)
    if blurred:
        image = _blur(image)
    if strength is not None:
        drawn = torch.randn(image.shape, generator=noise, device=image.device)
        image = torch.addcmul(image, strength * deviation, drawn)
    return image


def _gamma(image: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Intensities bent between the darkest and the brightest of each channel."""
    darkest = image.amin(dim=(1, 2, 3), keepdim=True)
    width = (image.amax(dim=(1, 2, 3), keepdim=True) - darkest).clamp(min=1e-6)
    return ((image - darkest) / width).clamp_(0, 1).pow_(exponent).mul_(width).add_(darkest)


def _blur(image: torch.Tensor) -> torch.Tensor:
    """A mean over 3x3x3 voxels, about what a slightly softer reconstruction kernel does."""
    return avg_pool3d(image, kernel_size=3, stride=1, padding=1, count_include_pad=False)


def _random_matrices(
    size: int, sides_mm: Sequence[float], generator: torch.Generator, *, thin_axis: int | None
) -> torch.Tensor:
    """Rotations with scaling (size, 3, 4) in the coordinates of ``affine_grid``."""
    axis = torch.randn((size, 3), generator=generator)
    scaled = torch.ones(3, dtype=torch.bool)
    if thin_axis is not None:
        # affine_grid's order is K, J, I
        scaled[2 - thin_axis] = False
        axis[:, scaled] = 0
    axis = torch.nn.functional.normalize(axis, dim=1)
    angle = (2 * _uniform((size, 1, 1), generator) - 1) * math.radians(_ROTATION_DEGREES)
    cross = torch.zeros((size, 3, 3))
    for row, column, source, sign in ((0, 1, 2, -1), (0, 2, 1, 1), (1, 2, 0, -1)):
        cross[:, row, column] = sign * axis[:, source]
        cross[:, column, row] = -sign * axis[:, source]
    # Rodrigues' formula
    rotation = torch.eye(3) + angle.sin() * cross
    rotation = rotation + (1 - angle.cos()) * cross @ cross
    low, high = map(math.log, _SCALE)
    scale = (low + (high - low) * _uniform((size, 1, 1), generator)).exp()
    # affine_grid runs from -1 to 1 along every axis, in the order K, J, I: a rotation in mm must be
    # stretched by the ratio of the patch's sides.
    sides = torch.tensor([*reversed(sides_mm)], dtype=torch.float32)
    scales = torch.where(scaled[:, None] & scaled, scale, 1.0)
    stretched = rotation * scales * sides[None, :] / sides[:, None]
    return torch.cat([stretched, torch.zeros((size, 3, 1))], dim=2)


def _uniform(shape: int | tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Random numbers from 0 to 1."""
    return torch.rand(shape, generator=generator)
