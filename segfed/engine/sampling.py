"""Training patches, drawn from preprocessed cases."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from segfed.engine.cache import PreparedCase

# Half of the patches are centred on a labelled voxel, so that small structures are seen often;
# the rest lie anywhere, so that the network learns what the background looks like.
_LABELLED_FRACTION = 0.5


def draw_batch(
    cases: Sequence[PreparedCase],
    *,
    patch_voxels: tuple[int, int, int],
    batch_size: int,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches of randomly chosen cases.

    A case smaller than the patch lies somewhere inside it, with zeros around: for CT the lower end
    of the window, for MR the mean of the brain or the background outside it.

    Returns:
        Images (B, C, I, J, K) float32 and labels (B, I, J, K) uint8.
    """
    n_channels = len(cases[0].image)
    images = np.zeros((batch_size, n_channels, *patch_voxels), dtype=np.float32)
    labels = np.zeros((batch_size, *patch_voxels), dtype=np.uint8)
    for index in range(batch_size):
        case = cases[rng.integers(len(cases))]
        labelled = index < round(batch_size * _LABELLED_FRACTION)
        corner = _draw_corner(case, patch_voxels, labelled=labelled, rng=rng)
        _cut(case, corner, images[index], labels[index])
    return torch.from_numpy(images), torch.from_numpy(labels)


def _draw_corner(
    case: PreparedCase,
    patch_voxels: tuple[int, int, int],
    *,
    labelled: bool,
    rng: np.random.Generator,
) -> list[int]:
    """First voxel of a patch; negative where the case is smaller than the patch."""
    slack = [have - size for have, size in zip(case.label.shape, patch_voxels, strict=True)]
    # One draw of three numbers: bounds that differ by axis take many times as long.
    corner = [
        min(room, 0) + int(drawn * (abs(room) + 1))
        for room, drawn in zip(slack, rng.random(3).tolist(), strict=True)
    ]
    if not labelled or len(case.positions) == 0:
        return corner
    # The rows are sorted by value: those of each end where a greater one begins.
    values, ends = case.positions[:, 0], [0]
    while ends[-1] < len(values):
        ends.append(bisect_right(values, values[ends[-1]]))
    value = rng.choice(len(ends) - 1)
    row = case.positions[rng.integers(ends[value], ends[value + 1])]
    # Where the case is smaller than the patch, every position shows all of it: keep the draw.
    return [
        min(max(centre - size // 2, 0), room) if room > 0 else drawn
        for centre, size, room, drawn in zip(
            row[1:].tolist(), patch_voxels, slack, corner, strict=True
        )
    ]


def _cut(
    case: PreparedCase,
    corner: Sequence[int],
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
) -> None:
    """Fill a patch (C, I, J, K) and (I, J, K) from a corner on, as far as it lies in the case."""
    source, inside = [], []
    for first, size, have in zip(corner, label.shape, case.label.shape, strict=True):
        start, stop = max(first, 0), min(first + size, have)
        source.append(slice(start, stop))
        inside.append(slice(start - first, stop - first))
    image[(slice(None), *inside)] = case.image[(slice(None), *source)]
    label[tuple(inside)] = case.label[tuple(source)]
