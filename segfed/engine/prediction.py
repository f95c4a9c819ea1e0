"""From an image to a label on the image's own grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map
from torch import nn
from torch.nn.functional import pad

from segfed.engine.cache import PreparedCase
from segfed.engine.clicks import NO_CLICKS, Clicks, click_maps, with_next_click
from segfed.engine.device import mixed_precision, place
from segfed.engine.plan import Plan
from segfed.evaluation import dice, structure_mask
from segfed.evaluation.masks import bounding_box
from segfed.volumes import Volume
from transforms import as_metatensor, preprocess, restore

# Neighbouring windows overlap by half, so that every voxel lies well inside one of them.
_STRIDE_FRACTION = 0.5
_WINDOWS_PER_BATCH = 4
# A model that takes clicks is chosen by what it makes of a few.
_VALIDATION_CLICKS = 2


def predict_label(
    networks: Sequence[nn.Module], plan: Plan, volume: Volume, *, device: torch.device
) -> Volume:
    """The label of an image, on the image's own grid.

    Args:
        networks: One network, or several whose probabilities are averaged.
        plan: The plan that they were trained by.
        volume: The image (C, I, J, K), its channels in the plan's order, on any grid.
        device: Where to compute; the networks are moved there.

    Returns:
        uint8, shape (1, I, J, K).
    """
    data = prepared_image(plan, volume)
    scores = predict_scores(networks, plan, data.as_tensor(), device=device)
    label = restore(
        scores,
        affine=data.affine,
        target_affine=volume.grid.affine,
        target_shape=volume.grid.shape,
    )
    return Volume(label.cpu().numpy()[None], volume.grid)


def prepared_image(plan: Plan, volume: Volume) -> MetaTensor:
    """What the network sees of an image (C, I, J, K): RAS axes, the plan's spacing and range."""
    transform = preprocess(spacing_mm=plan.spacing_mm, window_hu=plan.window_hu)
    image = as_metatensor(volume.data.astype(np.float32, copy=False), volume.grid.affine)
    prepared: MetaTensor = transform({"image": image})["image"]
    return prepared


@torch.no_grad()
def predict_scores(
    networks: Sequence[nn.Module],
    plan: Plan,
    image: torch.Tensor,
    *,
    clicks: Clicks = NO_CLICKS,
    before: torch.Tensor | None = None,
    device: torch.device,
) -> torch.Tensor:
    """Class probabilities of a preprocessed image, from windows weighted towards their centres.

    Only the box around what the image shows (body or brain: voxels that are not 0) is computed;
    the rest is background.

    Args:
        networks: One network, or several whose probabilities are averaged.
        plan: The plan that they were trained by.
        image: Shape (C, I, J, K), on RAS axes at the plan's spacing.
        clicks: Positions on the image's grid; without effect in a plan that takes none.
        before: What the clicks correct, see `click_maps`.
        device: Where to compute.

    Returns:
        Shape (K, I, J, K), float32, on the CPU.
    """
    networks = [place(network, device).eval() for network in networks]
    scores = torch.zeros((plan.n_classes, *image.shape[1:]))
    scores[0] = 1
    box = bounding_box((image != 0).any(dim=0).numpy())
    if plan.click_label is not None:
        image = torch.cat([image, click_maps(clicks, image.shape[1:], before=before)])
    if box is not None:
        here = (slice(None), *box)
        scores[here] = _slide(networks, plan, image[here], device)
    return scores


def refined_scores(
    networks: Sequence[nn.Module],
    plan: Plan,
    image: torch.Tensor,
    scores: torch.Tensor,
    *,
    clicks: Clicks,
    device: torch.device,
) -> torch.Tensor:
    """Class probabilities that take clicks into account, computed anew only around them.

    The box around all clicks and half a patch on each side is predicted with them; what lies
    further away stays as it was, so that a click on a large image costs little.

    Args:
        networks: As for `predict_scores`.
        plan: A plan that takes clicks.
        image: As for `predict_scores`.
        scores: What that gave without clicks; not changed.
        clicks: Positions on the image's grid, at least one.
        device: Where to compute.
    """
    if plan.click_target is None:
        raise ValueError("refined_scores needs a plan that takes clicks; train one with a label")
    near, corner = [], []
    for axis, (size, patch) in enumerate(zip(image.shape[1:], plan.patch_voxels, strict=True)):
        along = [round(position[axis]) for position in clicks.positions]
        first = min(max(min(along) - patch // 2, 0), size - 1)
        near.append(slice(first, max(max(along) + patch // 2, first + 1)))
        corner.append(first)
    here = (slice(None), *near)
    refined = scores.clone()
    refined[here] = predict_scores(
        networks,
        plan,
        image[here],
        clicks=clicks.from_corner(corner),
        before=scores[(plan.click_target[1], *near)],
        device=device,
    )
    return refined


@dataclass(frozen=True)
class MeanDice:
    """Mean Dice of one structure, and over how many cases it is defined."""

    mean: float
    """NaN where no case defines it."""

    n_cases: int


def validation_dice(
    network: nn.Module, plan: Plan, cases: Sequence[PreparedCase], *, device: torch.device
) -> dict[str, float]:
    """Mean Dice of each structure, as ``validation_means`` without its counts."""
    means = validation_means(network, plan, cases, device=device)
    return {name: score.mean for name, score in means.items()}


def validation_means(
    network: nn.Module, plan: Plan, cases: Sequence[PreparedCase], *, device: torch.device
) -> dict[str, MeanDice]:
    """Mean Dice of each structure over preprocessed cases, on their resampled grid.

    Meant for choosing between states of one training; published figures are measured on the
    images' own grids. A case counts for a structure unless that is empty in label and prediction.

    For a plan that takes clicks there is one Dice: of the label that they correct, after two by
    somebody who clicks in the largest error.
    """
    if plan.click_target is not None:
        name, value = plan.click_target
        after = [
            dice_after_clicks(
                network, plan, case, value=value, n_clicks=_VALIDATION_CLICKS, device=device
            )
            for case in cases
        ]
        return {name: _mean_dice([each[-1] for each in after])}
    rows: dict[str, list[float]] = {name: [] for name in plan.structures}
    for case in cases:
        image = torch.from_numpy(np.array(case.image))
        predicted = predict_scores([network], plan, image, device=device).argmax(dim=0).numpy()
        for name, values in plan.structures.items():
            rows[name].append(
                dice(structure_mask(case.label, values), structure_mask(predicted, values))
            )
    return {name: _mean_dice(values) for name, values in rows.items()}


def dice_after_clicks(
    network: nn.Module,
    plan: Plan,
    case: PreparedCase,
    *,
    value: int,
    n_clicks: int,
    device: torch.device,
) -> list[float]:
    """Dice of the label that clicks correct, after none, one, … of them; see `next_click`.

    Args:
        network: A network that takes clicks.
        plan: Its plan.
        case: A preprocessed case; scores are compared on its resampled grid.
        value: Of that label.
        n_clicks: How many clicks at most; the reader stops where nothing is wrong any more.
        device: Where to compute.

    Returns:
        ``n_clicks`` + 1 values, NaN while label and prediction are both empty.
    """
    image, truth = torch.from_numpy(np.array(case.image)), case.label == value
    start = scores = predict_scores([network], plan, image, device=device)
    clicks, found = NO_CLICKS, []
    for number in range(n_clicks + 1):
        predicted = scores.argmax(dim=0).numpy() == value
        found.append(dice(truth, predicted))
        if number < n_clicks and (truth != predicted).any():
            clicks = with_next_click(clicks, truth, predicted)
            scores = refined_scores([network], plan, image, start, clicks=clicks, device=device)
    return found


def _mean_dice(values: Sequence[float]) -> MeanDice:
    """Mean of the finite values, and their number."""
    n_cases = int(np.isfinite(values).sum())
    return MeanDice(float(np.nanmean(values)) if n_cases else float("nan"), n_cases)


def _slide(
    networks: Sequence[nn.Module], plan: Plan, image: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Class probabilities (K, I, J, K) of an image with at least one voxel."""
    patch = plan.patch_voxels
    missing = [max(0, size - have) for size, have in zip(patch, image.shape[1:], strict=True)]
    before = [gap // 2 for gap in missing]
    margins = [(low, gap - low) for low, gap in zip(before, missing, strict=True)]
    padded = pad(image, [side for margin in reversed(margins) for side in margin])
    weight = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125).float()
    total = torch.zeros((plan.n_classes, *padded.shape[1:]))
    weights = torch.zeros(padded.shape[1:])
    windows = list(_windows(padded.shape[1:], patch))
    for start in range(0, len(windows), _WINDOWS_PER_BATCH):
        chosen = windows[start : start + _WINDOWS_PER_BATCH]
        batch = torch.stack([padded[(slice(None), *window)] for window in chosen]).to(device)
        batch = batch.contiguous(memory_format=torch.channels_last_3d)
        with mixed_precision(device):
            logits = [network(_without_slow_path(batch))[: len(chosen)] for network in networks]
        probabilities = [one.float().softmax(dim=1) for one in logits]
        # With one network, as in every proposal, a mean would only copy.
        probability = (
            torch.stack(probabilities).mean(dim=0) if len(networks) > 1 else probabilities[0]
        )
        for window, values in zip(chosen, probability.cpu(), strict=True):
            total[(slice(None), *window)] += values * weight
            weights[window] += weight
    inside = tuple(
        slice(low, low + have) for low, have in zip(before, image.shape[1:], strict=True)
    )
    return (total / weights)[(slice(None), *inside)]


def _without_slow_path(batch: torch.Tensor) -> torch.Tensor:
    """The batch, with a lone window doubled where that halves the time.

    PyTorch 2.13 leaves oneDNN for a naive convolution when one sample meets one CPU thread
    (``slow_conv3d``): measured 93 ms for one window and 38 ms for two of them.
    """
    if len(batch) == 1 and batch.device.type == "cpu" and torch.get_num_threads() == 1:
        return torch.cat([batch, batch])
    return batch


def _windows(shape: Sequence[int], patch: Sequence[int]) -> Iterator[tuple[slice, slice, slice]]:
    """Windows that cover a grid, evenly spread, overlapping by about half."""
    starts = []
    for size, side in zip(shape, patch, strict=True):
        steps = -(-(size - side) // max(1, round(side * _STRIDE_FRACTION)))
        starts.append(
            [round(n * (size - side) / steps) for n in range(steps + 1)] if steps else [0]
        )
    for corner in itertools.product(*starts):
        i, j, k = (slice(start, start + side) for start, side in zip(corner, patch, strict=True))
        yield i, j, k
