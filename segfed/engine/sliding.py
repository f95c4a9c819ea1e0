"""Sliding windows: class probabilities of an image that is larger than a training patch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from monai.data.utils import compute_importance_map
from torch import nn
from torch.nn.functional import pad

from segfed.engine.device import enough_memory, mixed_precision
from segfed.engine.plan import Plan

# Neighbouring windows overlap by half, so that every voxel lies well inside one of them.
_STRIDE_FRACTION = 0.5
_WINDOWS_PER_BATCH = 4
_ADVICE = "Predict on the CPU (--device cpu), or train with smaller patch_voxels."

Axes = Sequence[int]
Window = tuple[slice, slice, slice]


@torch.no_grad()
def slide(
    networks: Sequence[nn.Module],
    plan: Plan,
    image: torch.Tensor,
    *,
    device: torch.device,
    mirror_axes: Axes = (),
) -> Iterator[torch.Tensor]:
    """Class probabilities of a preprocessed image, slab by slab.

    Windows go along the first axis; planes that no later window covers are given away, so that
    scores of one window's thickness are held at once, on the device.

    Args:
        networks: One network, or several whose probabilities are averaged; on the device.
        plan: The plan that they were trained by.
        image: Shape (C, I, J, K), at least one voxel.
        device: Where to compute.
        mirror_axes: Axes I, J, K (0, 1, 2) along which windows are predicted mirrored, too.

    Yields:
        Shape (K, i, J, K), float32, on the device: consecutive planes, I of them in all.

    Raises:
        OutOfMemoryError: If the device cannot hold a single window.
    """
    patch, shape = plan.patch_voxels, image.shape[1:]
    missing = [max(0, size - have) for size, have in zip(patch, shape, strict=True)]
    before = [gap // 2 for gap in missing]
    margins = [(low, gap - low) for low, gap in zip(before, missing, strict=True)]
    padded = pad(image, [side for margin in reversed(margins) for side in margin])
    inside = tuple(slice(low, low + have) for low, have in zip(before, shape, strict=True))
    weight = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125).float().to(device)
    flips = _flips(mirror_axes)
    rows = _rows(padded.shape[1:], patch)
    ends = [row[0][0].start for row in rows[1:]] + [padded.shape[1]]
    # Sums over the windows, for as many planes as a window has, from the row's first one on.
    total = torch.zeros((plan.n_classes, patch[0], *padded.shape[2:]), device=device)
    weights = torch.zeros(total.shape[1:], device=device)
    for row, end in zip(rows, ends, strict=True):
        for window, scores in _predicted(networks, padded, row, device=device, flips=flips):
            here = (slice(None), *window[1:])
            total[(slice(None), *here)] += scores.mul_(weight)
            weights[here] += weight
        done = end - row[0][0].start
        yield (total[:, :done] / weights[:done])[(slice(None), *inside)]
        for sums in (total, weights):
            planes = sums.movedim(-3, 0)
            planes[: patch[0] - done] = planes[done:].clone()
            planes[patch[0] - done :] = 0


def _predicted(
    networks: Sequence[nn.Module],
    image: torch.Tensor,
    windows: Sequence[Window],
    *,
    device: torch.device,
    flips: Sequence[Sequence[int]],
) -> Iterator[tuple[Window, torch.Tensor]]:
    """Each window with its class probabilities (K, i, j, k), on the device."""
    for start in range(0, len(windows), _WINDOWS_PER_BATCH):
        chosen = windows[start : start + _WINDOWS_PER_BATCH]
        with enough_memory(device, otherwise=_ADVICE):
            batch = torch.stack([image[(slice(None), *window)] for window in chosen]).to(device)
            batch = batch.contiguous(memory_format=torch.channels_last_3d)
            probability = _mean_probability(networks, batch, flips)
        yield from zip(chosen, probability, strict=True)


def _mean_probability(
    networks: Sequence[nn.Module], batch: torch.Tensor, flips: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Class probabilities (B, K, i, j, k), averaged over networks and mirrored images."""

    def probability(network: nn.Module, axes: Sequence[int]) -> torch.Tensor:
        seen = batch.flip(tuple(axes)) if axes else batch
        with mixed_precision(batch.device):
            logits = network(_without_slow_path(seen))[: len(batch)]
        found: torch.Tensor = logits.float().softmax(dim=1)
        return found.flip(tuple(axes)) if axes else found

    each = itertools.starmap(probability, itertools.product(networks, flips))
    total = next(each)
    for other in each:
        total.add_(other)
    return total.div_(len(networks) * len(flips))


def _flips(mirror_axes: Axes) -> list[list[int]]:
    """The axes of a batch to flip, for every combination of an image's axes; none at all first."""
    subsets = (itertools.combinations(mirror_axes, n) for n in range(len(mirror_axes) + 1))
    return [[axis + 2 for axis in subset] for subset in itertools.chain.from_iterable(subsets)]


def _without_slow_path(batch: torch.Tensor) -> torch.Tensor:
    """The batch, with a lone window doubled where that halves the time.

    PyTorch 2.13 leaves oneDNN for a naive convolution when one sample meets one CPU thread
    (``slow_conv3d``): measured 93 ms for one window and 38 ms for two of them.
    """
    if len(batch) == 1 and batch.device.type == "cpu" and torch.get_num_threads() == 1:
        return torch.cat([batch, batch])
    return batch


def _rows(shape: Sequence[int], patch: Sequence[int]) -> list[list[Window]]:
    """Windows that cover a grid, evenly spread, overlapping by about half; a row a first plane."""
    starts = []
    for size, side in zip(shape, patch, strict=True):
        steps = -(-(size - side) // max(1, round(side * _STRIDE_FRACTION)))
        starts.append(
            [round(n * (size - side) / steps) for n in range(steps + 1)] if steps else [0]
        )
    i_size, j_size, k_size = patch
    return [
        [
            (slice(i, i + i_size), slice(j, j + j_size), slice(k, k + k_size))
            for j, k in itertools.product(*starts[1:])
        ]
        for i in starts[0]
    ]
