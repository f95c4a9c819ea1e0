"""What the worker process does when a reader clicks: correct one structure of a case."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from label_app.inference import (
    Clock,
    Proposal,
    as_file,
    check_unseen,
    loaded_model,
    out_of_memory,
    timed,
)
from segfed.engine import (
    Clicks,
    Plan,
    predict_scores,
    prepared_image,
    refined_scores,
    select_device,
)
from segfed.errors import WeightsError
from segfed.sites import Case, Site, store_label
from segfed.volumes import Grid, Volume, read_channels, read_label
from transforms import restore


@dataclass(frozen=True)
class _Start:
    """A case before the first click."""

    grid: Grid
    """The image's own."""

    image: torch.Tensor
    """What the network sees (C, I, J, K)."""

    affine: NDArray[np.float64]
    """Its own, from voxel index to RAS mm."""

    scores: torch.Tensor
    """Class probabilities (K, I, J, K) without clicks."""


def refine(
    site: Site,
    case: Case,
    clicks: Clicks,
    *,
    shown_sha256: str | None,
    model_folder: Path,
    device: str,
    extension: str,
) -> Proposal:
    """A case's structure as it looks after some clicks.

    What is stored at the site is the whole label as the reader now has it, as far as a model made
    it: the last proposal with this structure replaced. The reader's file holds the structure alone,
    so that Slicer leaves all other segments as they are.

    Args:
        site: The site.
        case: One of its cases.
        clicks: Voxels of the image, at least one.
        shown_sha256: The stored proposal that the reader has before them, if there is one.
        model_folder: A published bundle that takes clicks; it and the case stay loaded, so that
            the next click on the case is answered sooner.
        device: Where to compute.
        extension: Format of the reader's file.

    Raises:
        CaseError: If the model was trained on the case.
        SegfedError: If model, image or proposal are missing or damaged.
        MemoryError: If the device or this machine has not enough memory.
    """
    clock = Clock()
    model = loaded_model(model_folder)
    check_unseen(model, case)
    name, value = click_target(model.plan)
    clock.lap("load")
    with out_of_memory(), timed(model.network) as forward:
        start = _start(
            model_folder, model.sha256, device, case.image_sha256, *case.channels.items()
        )
        clock.lap("read")
        scores = refined_scores(
            [model.network],
            model.plan,
            start.image,
            start.scores,
            clicks=clicks.on_grid(start.grid.affine, start.affine),
            device=select_device(device),
        )
        clock.lap("predict")
        label = restore(
            scores,
            affine=start.affine,
            target_affine=start.grid.affine,
            target_shape=start.grid.shape,
        )
    mask = with_clicked_voxels(label.numpy() == value, clicks)
    clock.lap("restore")
    shown = read_label(site.ledger().label_path(shown_sha256)).data[0] if shown_sha256 else None
    whole = with_structure(shown, mask, value=value)
    proposal_sha256 = store_label(site.folder, Volume(whole[None], start.grid))
    clock.lap("store")
    alone = np.where(mask, value, 0).astype(np.uint8)[None]
    file = as_file(Volume(alone, start.grid), extension)
    clock.lap("write")
    return Proposal(
        file=file,
        label_names={name: value} if mask.any() else {},
        proposal_sha256=proposal_sha256,
        model_sha256=model.sha256,
        study=model.lineage.study,
        round=model.lineage.round,
        seconds=clock.seconds | {"forward": sum(forward)},
    )


def with_clicked_voxels(mask: NDArray[np.bool_], clicks: Clicks) -> NDArray[np.bool_]:
    """A structure (I, J, K) that holds each voxel clicked on it, and none clicked beside it.

    The reader's word counts, even where the network does not follow it.
    """
    result = mask.copy()
    for positions, belongs in ((clicks.foreground, True), (clicks.background, False)):
        for i, j, k in positions:
            result[int(i), int(j), int(k)] = belongs
    return result


def with_structure(
    label: NDArray[Any] | None, mask: NDArray[np.bool_], *, value: int
) -> NDArray[np.uint8]:
    """A label (I, J, K) in which a structure is the mask; None stands for an empty label.

    A mask without a voxel changes nothing: Slicer finds no segment in such an answer, and leaves
    its own as it is.
    """
    result = np.zeros(mask.shape, dtype=np.uint8) if label is None else label.astype(np.uint8)
    if not mask.any():
        return result
    result[(result == value) & ~mask] = 0
    result[mask] = value
    return result


def click_target(plan: Plan) -> tuple[str, int]:
    """Name and value of the label that a model's clicks correct.

    Raises:
        WeightsError: If the model takes none.
    """
    if plan.click_target is None:
        raise WeightsError(
            f"The model published for clicks on {plan.task} takes none; expected one trained with "
            "`segfed train SITE --clicks LABEL`. Publish such a model."
        )
    return plan.click_target


@lru_cache(maxsize=1)
def _start(
    model_folder: Path,
    model_sha256: str,  # noqa: ARG001 -- part of the key
    device: str,
    image_sha256: str,  # noqa: ARG001 -- part of the key
    *channels: tuple[str, Path],
) -> _Start:
    """A case as it is before the first click, kept for the next ones."""
    model, volume = loaded_model(model_folder), read_channels(dict(channels))
    prepared = prepared_image(model.plan, volume)
    image = prepared.as_tensor()
    return _Start(
        grid=volume.grid,
        image=image,
        affine=np.asarray(prepared.affine, dtype=np.float64),
        scores=predict_scores([model.network], model.plan, image, device=select_device(device)),
    )
