"""A plain MONAI pipeline, as MONAI's tutorials write it: the rival of `training_speed.py`.

The network is that of the spleen tutorial with a level less, which patches of 40 x 56 x 40 demand.
It gets what segfed gets: cases, patch, batch, mirrored axes, learning rate and its schedule.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.data import CacheDataset, DataLoader
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.layers import Norm
from monai.networks.nets import UNet
from monai.utils import set_determinism

from segfed.engine import Plan
from segfed.evaluation import dice
from segfed.learning_rate import schedule
from segfed.sites import LabelledCase

KEYS = ("image", "label")


def files(cases: Sequence[LabelledCase], plan: Plan) -> list[dict[str, str]]:
    """What MONAI's datasets take."""
    (channel,) = plan.channels
    return [
        {"image": str(each.case.channels[channel]), "label": str(each.label_path)} for each in cases
    ]


def loaded(cases: Sequence[LabelledCase], plan: Plan, *, random: bool) -> CacheDataset:
    """The cases in memory, as training patches where random changes are wanted."""
    steps: list[Any] = [
        mt.LoadImaged(KEYS, reader="NibabelReader"),
        mt.EnsureChannelFirstd(KEYS),
        mt.Orientationd(KEYS, "RAS", labels=None),
        mt.NormalizeIntensityd("image", nonzero=True),
    ]
    if random:
        steps += [
            mt.SpatialPadd(KEYS, plan.patch_voxels),
            mt.RandCropByPosNegLabeld(
                KEYS, label_key="label", spatial_size=plan.patch_voxels, num_samples=1
            ),
            *(mt.RandFlipd(KEYS, prob=0.5, spatial_axis=axis) for axis in plan.mirror_axes),
        ]
    return CacheDataset(files(cases, plan), mt.Compose(steps), progress=False)


class Tutorial:
    """The training, a stretch of steps at a time."""

    def __init__(self, plan: Plan, data: CacheDataset, *, seed: int) -> None:
        """Build the network."""
        set_determinism(seed)
        self._plan = plan
        self._data = DataLoader(data, batch_size=plan.batch_size, shuffle=True)
        self._network = UNet(
            spatial_dims=3,
            in_channels=len(plan.channels),
            out_channels=plan.n_classes,
            channels=(16, 32, 64, 128),
            strides=(2, 2, 2),
            num_res_units=2,
            norm=Norm.BATCH,
        )
        self._loss = DiceCELoss(to_onehot_y=True, softmax=True)
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=plan.learning_rate)
        self.steps_done = 0

    def run(self, steps: int, *, total: int, seconds: float) -> float:
        """Train for some of all steps, at most for some seconds; returns the seconds taken."""
        started = time.perf_counter()
        self._network.train()
        for batch in itertools.islice(self._batches(), steps):
            for group in self._optimizer.param_groups:
                group["lr"] = self._plan.learning_rate * schedule(self.steps_done, total)
            self._optimizer.zero_grad()
            self._loss(self._network(batch["image"]), batch["label"]).backward()
            self._optimizer.step()
            self.steps_done += 1
            if time.perf_counter() - started >= seconds:
                break
        return time.perf_counter() - started

    def _batches(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from self._data

    @torch.no_grad()
    def dice(self, held_out: CacheDataset, *, mirrored: bool = False) -> float:
        """Mean Dice of the labels over cases, predicted once or averaged with the mirror image."""
        self._network.eval()
        axes = [2 + axis for axis in self._plan.mirror_axes]  # one, or all at once

        def predict(image: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self._network(image)
            if not mirrored:
                return logits
            turned = self._network(image.flip(axes)).flip(axes)
            return logits.softmax(dim=1) + turned.softmax(dim=1)

        rows = []
        for case in held_out:
            scores = sliding_window_inference(
                case["image"][None], self._plan.patch_voxels, 4, predict, overlap=0.5
            )
            predicted, label = (
                np.asarray(values) for values in (scores[0].argmax(dim=0), case["label"][0])
            )
            rows.append([dice(label == v, predicted == v) for v in self._plan.labels.values()])
        return float(np.mean(rows))
