"""Clicks by which a reader corrects one structure, as further inputs of the network.

The scheme is that of DeepGrow (Sakinis et al. 2019, https://arxiv.org/abs/1903.08205) and DeepEdit
(Diaz-Pinto et al. 2022, https://arxiv.org/abs/2305.10655): one map of the clicks on the structure
and one of those beside it. Without a click both are zero, and the same network segments by itself.
What it then took for the structure is a third map, as in RITM (Sofiiuk et al. 2021,
https://arxiv.org/abs/2102.06583): a click is to change that, and not all around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from segfed.engine.device import mixed_precision
from segfed.engine.plan import N_CLICK_MAPS
from segfed.engine.weights import State
from segfed.evaluation.masks import Mask, bounding_box

Position = tuple[float, float, float]

_SIGMA_VOXELS = 1.5
# Wide enough that one voxel of float32 beyond it would hold less than 1e-4.
_REACH_SIGMAS = 4.5
_MOST_SIMULATED = 3
# Else the network forgets how to segment by itself, where nobody has clicked.
_WITHOUT_CLICKS = 0.25
_ALL_MISSED = 0.5
_TOUCHING = np.ones((3, 3, 3), dtype=np.bool_)


@dataclass(frozen=True)
class Clicks:
    """Where a reader pointed, as voxel positions I, J, K of one grid, fractions allowed."""

    foreground: tuple[Position, ...] = ()
    """On the structure."""

    background: tuple[Position, ...] = ()
    """Beside it, where it must not be."""

    @property
    def positions(self) -> tuple[Position, ...]:
        """All of them."""
        return self.foreground + self.background

    def on_grid(self, affine: Any, target_affine: Any) -> Clicks:
        """The same places on another grid.

        Args:
            affine: 4x4 of the grid that the positions count on, from voxel index to RAS mm.
            target_affine: 4x4 of the other grid.
        """
        matrix = np.linalg.solve(
            np.asarray(target_affine, dtype=np.float64), np.asarray(affine, dtype=np.float64)
        )
        return self._moved(matrix[:3, :3], matrix[:3, 3])

    def from_corner(self, corner: Sequence[int]) -> Clicks:
        """The same places in a box of the grid that begins at a voxel."""
        return self._moved(np.eye(3), -np.asarray(corner, dtype=np.float64))

    def _moved(self, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Clicks:
        def move(positions: Sequence[Position]) -> tuple[Position, ...]:
            moved = np.asarray(positions, dtype=np.float64).reshape(-1, 3) @ matrix.T + shift
            return tuple((float(i), float(j), float(k)) for i, j, k in moved)

        return Clicks(move(self.foreground), move(self.background))


NO_CLICKS = Clicks()


def click_maps(
    clicks: Clicks, shape: Sequence[int], *, before: torch.Tensor | None = None
) -> torch.Tensor:
    """A map of the clicks on the structure, one of those beside it, and what it was before them.

    Each click is a Gaussian with a deviation of 1.5 voxels and a peak of 1; where several meet,
    the highest counts. A click outside the grid leaves there what reaches into it.

    Args:
        clicks: Positions on the grid.
        shape: Shape (I, J, K) of the grid.
        before: Probability of the structure without clicks, same shape; zero if not given.

    Returns:
        Shape (3, I, J, K), float32, from 0 to 1.
    """
    maps = torch.zeros((N_CLICK_MAPS, *shape))
    if before is not None:
        maps[-1] = before
    reach = _REACH_SIGMAS * _SIGMA_VOXELS
    for values, positions in zip(maps, (clicks.foreground, clicks.background), strict=False):
        for position in positions:
            near, profiles = [], []
            for centre, size in zip(position, shape, strict=True):
                first = min(max(int(np.floor(centre - reach)), 0), size)
                last = min(max(int(np.ceil(centre + reach)) + 1, first), size)
                distance = torch.arange(first, last, dtype=torch.float64) - centre
                near.append(slice(first, last))
                profiles.append((-0.5 * (distance / _SIGMA_VOXELS) ** 2).exp())
            i, j, k = profiles
            peak = (i[:, None, None] * j[:, None] * k).float()
            values[tuple(near)] = torch.maximum(values[tuple(near)], peak)
    return maps


def next_click(
    truth: Mask, predicted: Mask, *, rng: np.random.Generator | None = None
) -> tuple[Position, bool] | None:
    """Where somebody who knows the truth would click next: in the largest connected error.

    Args:
        truth: The structure, shape (I, J, K).
        predicted: What it is taken for, same shape.
        rng: Chooses a voxel in the inner half of that error; without it, it is the one furthest
            from the error's border.

    Returns:
        The voxel, and whether it belongs to the structure; None if nothing is wrong.
    """
    box = bounding_box(truth != predicted)
    if box is None:
        return None
    wrong, inside = truth[box] != predicted[box], truth[box]
    # A missed and an invented part that touch are two errors.
    missed, n_missed = ndimage.label(wrong & inside, structure=_TOUCHING)
    invented, n_invented = ndimage.label(wrong & ~inside, structure=_TOUCHING)
    parts = missed + np.where(invented > 0, invented + n_missed, 0)
    sizes = np.bincount(parts.ravel(), minlength=n_missed + n_invented + 1)
    largest = int(sizes[1:].argmax()) + 1
    # The edge of the box, and so of the image, is a border too.
    depth = ndimage.distance_transform_edt(np.pad(parts == largest, 1))[1:-1, 1:-1, 1:-1]
    deepest = float(depth.max())
    candidates = np.argwhere(depth >= (deepest / 2 if rng is not None else deepest))
    chosen = candidates[int(rng.integers(len(candidates))) if rng is not None else 0]
    i, j, k = (float(index + part.start) for index, part in zip(chosen, box, strict=True))
    return (i, j, k), largest <= n_missed


def with_next_click(
    clicks: Clicks, truth: Mask, predicted: Mask, *, rng: np.random.Generator | None = None
) -> Clicks:
    """The clicks and the next one; see `next_click`."""
    found = next_click(truth, predicted, rng=rng)
    if found is None:
        return clicks
    position, is_foreground = found
    if is_foreground:
        return Clicks((*clicks.foreground, position), clicks.background)
    return Clicks(clicks.foreground, (*clicks.background, position))


@torch.no_grad()
def with_simulated_clicks(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, value: int, seed: int
) -> torch.Tensor:
    """Training patches with maps of clicks that answer what the network gets wrong at present.

    A quarter of the batches have none. For the others one to three rounds are drawn: the network
    segments with the clicks so far, and each patch gets a click in its largest error. For half of
    the patches it begins as if all of the structure had been missed: a network that knows its
    training cases by heart makes few errors there, and would hardly see a click.

    Args:
        network: The network, which is not changed.
        images: Shape (B, C, I, J, K), without maps.
        labels: Shape (B, I, J, K).
        value: Label value of the structure.
        seed: Decides the clicks.

    Returns:
        Shape (B, C + 3, I, J, K), on the images' device.
    """
    rng = np.random.default_rng(seed)
    truths = (labels == value).cpu().numpy()
    clicks = [NO_CLICKS] * len(images)
    before = torch.zeros(labels.shape)
    inputs = _with_maps(images, clicks, before)
    n_clicks = int(rng.integers(1, _MOST_SIMULATED + 1)) * (rng.random() >= _WITHOUT_CLICKS)
    for number in range(n_clicks):
        with mixed_precision(images.device):
            scores = network(inputs).float().softmax(dim=1).cpu()
        if number == 0:
            before = scores[:, value]
            missed = torch.from_numpy(rng.random(len(images)) < _ALL_MISSED)
            before[missed], scores[missed, value] = 0, 0
        predicted = (scores.argmax(dim=1) == value).numpy()
        clicks = [
            with_next_click(*each, rng=rng) for each in zip(clicks, truths, predicted, strict=True)
        ]
        inputs = _with_maps(images, clicks, before)
    return inputs


def with_click_inputs(state: State, network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a network without clicks for one that is alike but takes them.

    The new inputs begin without effect: the network then segments as it did, whatever is clicked.

    Args:
        state: The weights.
        network: The network with more inputs.
    """
    wanted = network.state_dict()
    widened = dict(state)
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            # The maps are the last channels, and a stem keeps the voxels of one channel together.
            n_new = wanted[name].shape[1] - value.shape[1]
            new = value.new_zeros((len(value), n_new, *value.shape[2:]))
            widened[name] = torch.cat([value, new], dim=1)
    return widened


def _with_maps(
    images: torch.Tensor, clicks: Sequence[Clicks], before: torch.Tensor
) -> torch.Tensor:
    """The images with their maps behind the channels."""
    maps = torch.stack(
        [
            click_maps(each, images.shape[2:], before=probability)
            for each, probability in zip(clicks, before, strict=True)
        ]
    )
    joined = torch.cat([images, maps.to(images)], dim=1)
    return joined.contiguous(memory_format=torch.channels_last_3d)
