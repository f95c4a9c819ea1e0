"""From an image to a label on the image's own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from torch import nn

from segfed.engine.cache import PreparedCase
from segfed.engine.clicks import NO_CLICKS, Clicks, click_maps, with_next_click
from segfed.engine.device import place
from segfed.engine.plan import Plan
from segfed.engine.sliding import Axes, slide
from segfed.evaluation import dice, structure_mask
from segfed.evaluation.masks import Box, bounding_box
from segfed.volumes import Volume
from transforms import as_metatensor, preprocess, restore_slabs

# A model that takes clicks is chosen by what it makes of a few.
_VALIDATION_CLICKS = 2


def predict_label(
    networks: Sequence[nn.Module],
    plan: Plan,
    volume: Volume,
    *,
    device: torch.device,
    mirror_axes: Axes = (),
    on_prepared: Callable[[torch.Tensor], None] = lambda _image: None,
) -> Volume:
    """The label of an image, on the image's own grid.

    Class scores exist for a slab of the image at a time, on the network's grid and on the image's
    own: memory beside the image itself does not grow with its length.

    Args:
        networks: One network, or several whose probabilities are averaged.
        plan: The plan that they were trained by.
        volume: The image (C, I, J, K), its channels in the plan's order, on any grid.
        device: Where to compute; the networks are moved there.
        mirror_axes: RAS axes; the image is predicted mirrored along every combination of them,
            too, and averaged. Twice the time for each axis.
        on_prepared: Called with the image as the network sees it, (C, I, J, K).

    Returns:
        uint8, shape (1, I, J, K).

    Raises:
        OutOfMemoryError: If the device cannot hold a single window.
    """
    data = prepared_image(plan, volume)
    image = data.as_tensor()
    on_prepared(image)
    box = content_box(image)
    if box is None:
        return Volume(np.zeros((1, *volume.grid.shape), dtype=np.uint8), volume.grid)
    image = _network_input(plan, image)
    label = restore_slabs(
        _slabs(networks, plan, image, box, device=device, mirror_axes=mirror_axes),
        box=box,
        shape=image.shape[1:],
        affine=data.affine,
        target_affine=volume.grid.affine,
        target_shape=volume.grid.shape,
    )
    return Volume(label.numpy()[None], volume.grid)


def prepared_image(plan: Plan, volume: Volume) -> MetaTensor:
    """What the network sees of an image (C, I, J, K): RAS axes, the plan's spacing and range."""
    transform = preprocess(spacing_mm=plan.spacing_mm, window_hu=plan.window_hu)
    image = as_metatensor(volume.data.astype(np.float32, copy=False), volume.grid.affine)
    prepared: MetaTensor = transform({"image": image})["image"]
    return prepared


def content_box(image: torch.Tensor) -> Box | None:
    """The box around what a preprocessed image (C, I, J, K) shows: body or brain, voxels not 0."""
    return bounding_box((image != 0).any(dim=0).numpy())


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
    scores = torch.zeros((plan.n_classes, *image.shape[1:]))
    scores[0] = 1
    box = content_box(image)
    if box is not None:
        image = _network_input(plan, image, clicks=clicks, before=before)
        done = box[0].start
        for slab in _slabs(networks, plan, image, box, device=device):
            scores[:, done : done + slab.shape[1], box[1], box[2]] = slab.cpu()
            done += slab.shape[1]
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
        before=scores[plan.click_target[1]][tuple(near)],
        device=device,
    )
    return refined


def _slabs(
    networks: Sequence[nn.Module],
    plan: Plan,
    image: torch.Tensor,
    box: Box,
    *,
    device: torch.device,
    mirror_axes: Axes = (),
) -> Iterator[torch.Tensor]:
    """Class probabilities (K, i, J, K) of the planes of a box, from its first one to its last."""
    networks = [place(network, device).eval() for network in networks]
    return slide(networks, plan, image[(slice(None), *box)], device=device, mirror_axes=mirror_axes)


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


def _network_input(
    plan: Plan,
    image: torch.Tensor,
    *,
    clicks: Clicks = NO_CLICKS,
    before: torch.Tensor | None = None,
) -> torch.Tensor:
    """A preprocessed image, with the maps of clicks behind it where the plan takes any."""
    if plan.click_label is None:
        return image
    return torch.cat([image, click_maps(clicks, image.shape[1:], before=before)])


def _mean_dice(values: Sequence[float]) -> MeanDice:
    """Mean of the finite values, and their number."""
    n_cases = int(np.isfinite(values).sum())
    return MeanDice(float(np.nanmean(values)) if n_cases else float("nan"), n_cases)
