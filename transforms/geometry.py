"""Training patches rotated, scaled and mirrored at random, labels with their images.

What is done to which sample is decided on the CPU, so that a GPU never waits for an answer, and so
that every device does the same. Only samples that are changed cost time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import grid_sample, normalize, pad

# How often a sample is turned, and by how much. Ranges as nnU-Net's, narrowed where a patch of a
# few dozen voxels would lose the structure.
_PROBABILITY = 0.35
_ROTATION_DEGREES = 20.0
_SCALE = (0.8, 1.25)
# A patch that is so much longer than thick, in voxels, turns in its plane only, as in nnU-Net: any
# other rotation would move most of it out of itself.
_THIN_RATIO = 3.0

Matrix = list[list[float]]
"""Three rows of three."""

Places = list[torch.Tensor]
"""Three tensors (I, J, K): where along I, J and K each voxel comes from, as an index."""


def turn_(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    spacing_mm: Sequence[float],
    generator: torch.Generator,
) -> None:
    """Rotate some samples about a random axis and scale them, about the patch's centre, in place.

    A thin patch rotates about its short axis, and keeps its scale along that.

    Interpolates images linearly and labels to the nearest voxel; what comes from outside the patch
    is 0, as it is around a case that is smaller than its patch.

    Args:
        images: Shape (B, C, I, J, K), float32.
        labels: Shape (B, I, J, K), uint8.
        spacing_mm: Spacing along I, J and K.
        generator: Source of all randomness, on the CPU.
    """
    size = images.shape[2:]
    # Places are computed alike everywhere; PyTorch's own interpolation is slow on a CPU alone.
    sample = _sampled if images.device.type == "cpu" else _sampled_by_pytorch
    for n, drawn in enumerate(torch.rand(len(images), generator=generator).tolist()):
        if drawn < _PROBABILITY:
            matrix = _random_matrix(spacing_mm, generator, thin=thin_axis(size))
            places = _places(matrix, size, device=images.device)
            images[n], labels[n] = sample(images[n], labels[n], places)


def mirror_(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    axes: Sequence[int],
    generator: torch.Generator,
) -> None:
    """Mirror each sample along each of the axes (0, 1, 2) with probability one half, in place."""
    for n, flips in enumerate(torch.rand((len(images), len(axes)), generator=generator).tolist()):
        chosen = [axis for axis, drawn in zip(axes, flips, strict=True) if drawn < 0.5]
        if chosen:
            images[n] = images[n].flip([axis + 1 for axis in chosen])
            labels[n] = labels[n].flip(chosen)


def thin_axis(size: Sequence[int]) -> int | None:
    """The axis across the slices of a patch (I, J, K) that is far longer than thick, if it is."""
    return size.index(min(size)) if max(size) > _THIN_RATIO * min(size) else None


def _random_matrix(
    spacing_mm: Sequence[float], generator: torch.Generator, *, thin: int | None
) -> Matrix:
    """A rotation in mm with scaling, which acts on voxel indices."""
    axis = torch.randn(3, generator=generator)
    if thin is not None:
        axis[[other for other in range(3) if other != thin]] = 0
    along: list[float] = normalize(axis, dim=0).tolist()
    i, j, k = along
    turned, zoomed = torch.rand(2, generator=generator).tolist()
    angle = (2 * turned - 1) * math.radians(_ROTATION_DEGREES)
    low, high = map(math.log, _SCALE)
    scale = math.exp(low + (high - low) * zoomed)
    sine, cosine = math.sin(angle), math.cos(angle)
    cross = ((0, -k, j), (k, 0, -i), (-j, i, 0))

    def entry(row: int, column: int) -> float:
        """Rodrigues' formula, from mm to voxels and back."""
        value = sine * cross[row][column] + (1 - cosine) * along[row] * along[column]
        value += cosine * (row == column)
        value *= 1.0 if thin in (row, column) else scale
        return float(value * spacing_mm[column] / spacing_mm[row])

    return [[entry(row, column) for column in range(3)] for row in range(3)]


def _places(matrix: Matrix, size: Sequence[int], *, device: torch.device) -> Places:
    """Where a matrix about the patch's centre takes each voxel from."""
    centre = [(n - 1) / 2 for n in size]
    i, j, k = (
        torch.arange(n, dtype=torch.float32, device=device).sub_(middle)
        for n, middle in zip(size, centre, strict=True)
    )
    return [
        (j[:, None] * by_j + (k * by_k + middle)) + (i * by_i)[:, None, None]
        for (by_i, by_j, by_k), middle in zip(matrix, centre, strict=True)
    ]


def _sampled_by_pytorch(
    image: torch.Tensor, label: torch.Tensor, places: Places
) -> tuple[torch.Tensor, torch.Tensor]:
    """An image (C, I, J, K), linearly, and a label (I, J, K), nearest, at some places."""
    # grid_sample's order is K, J, I, and each axis runs from -1 to 1 between its voxels' far sides.
    grid = torch.stack(
        [
            (2 * place + 1) / n - 1
            for place, n in zip(reversed(places), reversed(label.shape), strict=True)
        ],
        dim=-1,
    )[None]
    linear = grid_sample(image[None], grid, mode="bilinear", align_corners=False)
    nearest = grid_sample(label[None, None].float(), grid, mode="nearest", align_corners=False)
    return linear[0], nearest[0, 0].to(label.dtype)


def _sampled(
    image: torch.Tensor, label: torch.Tensor, places: Places
) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``_sampled_by_pytorch``, in a third of the time on a CPU: passes over whole tensors."""
    shape = label.shape
    # A voxel of zeros below, and two above: no place then needs to be asked whether it is inside.
    margins = (1, 2) * 3
    padded, padded_label = pad(image, margins).flatten(1), pad(label, margins).flatten()
    row, plane = shape[2] + 3, (shape[1] + 3) * (shape[2] + 3)
    floors, fractions = [], []
    for place, n in zip(places, shape, strict=True):
        inside = (place + 1).clamp_(0, n + 1).flatten()
        floors.append(inside.int())
        fractions.append(inside.frac_())
    first = floors[2].add_(floors[1], alpha=row).add_(floors[0], alpha=plane)
    by_i, by_j, by_k = fractions

    def linear(channel: torch.Tensor) -> torch.Tensor:
        """One channel of the padded image, from its eight voxels around each place."""
        i_ends = []
        for i_offset in (0, plane):
            j_ends = []
            for offset in (i_offset, i_offset + row):
                low, high = (channel[at:].index_select(0, first) for at in (offset, offset + 1))
                j_ends.append(low.lerp_(high, by_k))
            i_ends.append(j_ends[0].lerp_(j_ends[1], by_j))
        return i_ends[0].lerp_(i_ends[1], by_i)

    moved = torch.stack([linear(channel) for channel in padded]).view(image.shape)
    for fraction, step in zip(fractions, (plane, row, 1), strict=True):
        first.add_(fraction.round_().int(), alpha=step)
    return moved, padded_label.index_select(0, first).view(shape)
