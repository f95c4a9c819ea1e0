"""Dice by choices in training: optimizer, norm, short cuts, augmentation, averaged weights.

    python benchmarks/training_choices.py [--steps 1500] [--seeds 0 1] [--only NAME ...]

The data are those of `training_speed.py` without its held-out cases: 120 of the others are trained
on, and 40 are scored. Every choice trains the task's plan for as many steps, on the same patches,
from the same weights where the network is the same. Beside each the exponential moving average of
its weights is scored, too. Elastic deformation, which the product does not have, is a field of
random shifts on a coarse grid, added wherever a sample is turned.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from hippocampus import DATA, TASK, labelled_cases, mean_dice
from training_speed import N_HELD_OUT, trainer

from segfed.engine import (
    LocalTrainer,
    Plan,
    PreparedCase,
    make_plan,
    prepare,
    select_device,
    validation_dice,
)
from segfed.sites import load_task
from transforms import geometry, intensity

AVERAGE_DECAY = 0.99
POLYNOMIAL = 0.9
ELASTIC_NODES = 5
ELASTIC_VOXELS = 1.5


@dataclass(frozen=True)
class Choice:
    """What differs from the product's own training."""

    plan: Mapping[str, Any] = field(default_factory=dict)
    patches: Mapping[str, Any] = field(default_factory=dict)
    """What stands at a dotted name instead."""

    momentum: float | None = None
    """Of SGD with Nesterov's rule and nnU-Net's decay, instead of AdamW with a cosine."""


def polynomial(step: int, total_steps: int) -> float:
    """nnU-Net's decay of the learning rate."""
    return max(1 - step / total_steps, 0) ** POLYNOMIAL


def elastic_places(matrix: Any, size: Sequence[int], *, device: torch.device) -> geometry.Places:
    """As the product's, with a smooth field of shifts; drawn from PyTorch's global generator."""
    shifts = ELASTIC_VOXELS * torch.randn(1, 3, *[ELASTIC_NODES] * 3, device=device)
    smooth = torch.nn.functional.interpolate(shifts, list(size), mode="trilinear")[0]
    places = PLACES(matrix, size, device=device)
    return [place + shift for place, shift in zip(places, smooth, strict=True)]


PLACES = geometry._places
ALL_BUT_RESOLUTION = {**intensity._WAYS, "resolution": (0.0, 1.0, 1.0)}
CHOICES = {
    "as it is": Choice(),
    "no low resolution": Choice(patches={"transforms.intensity._WAYS": ALL_BUT_RESOLUTION}),
    "elastic": Choice(patches={"transforms.geometry._places": elastic_places}),
    "residual": Choice(plan={"residual": True}),
    "group norm": Choice(plan={"group_norm": True}),
    "deep supervision": Choice(plan={"deep_supervision": True}),
    "SGD 0.01, 0.99, poly": Choice(plan={"learning_rate": 0.01}, momentum=0.99),
    "SGD 0.05, 0.9, poly": Choice(plan={"learning_rate": 0.05}, momentum=0.9),
}


@contextmanager
def applied(choice: Choice, run: LocalTrainer) -> Iterator[None]:
    """A context in which a trainer follows a choice."""
    replaced = dict(choice.patches)
    if choice.momentum is not None:
        run._optimizer = torch.optim.SGD(
            run.network.parameters(),
            lr=run.plan.learning_rate,
            momentum=choice.momentum,
            nesterov=True,
            weight_decay=3e-5,
        )
        replaced["segfed.engine.training.schedule"] = polynomial
    patches = [patch(name, value) for name, value in replaced.items()]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def scores(
    choice: Choice,
    plan: Plan,
    cases: Sequence[PreparedCase],
    scored: Sequence[PreparedCase],
    *,
    seed: int,
    steps: int,
    device: torch.device,
) -> tuple[float, float, float]:
    """Dice of the last weights and of their average, and seconds of the processor for a step."""
    torch.manual_seed(seed)
    run = trainer(plan, cases, seed=seed, steps=steps, device=device)
    network = run.network
    average = {key: value.clone() for key, value in network.state_dict().items()}

    def follow(step: int, _: float) -> None:
        # At first the average forgets faster, or random weights would stay in it.
        decay = min(AVERAGE_DECAY, step / (step + 10))
        for key, value in network.state_dict().items():
            average[key].lerp_(value, 1 - decay)

    started = time.process_time()
    with applied(choice, run):
        run.run(steps, follow)
    seconds = time.process_time() - started

    last = mean_dice(validation_dice(network, plan, scored, device=device))
    network.load_state_dict(average)
    averaged = mean_dice(validation_dice(network, plan, scored, device=device))
    return last, averaged, seconds / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--steps", type=int, default=1500, help="optimizer steps of a training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", default=list(CHOICES), choices=CHOICES, metavar="NAME")
    arguments = parser.parse_args()
    device = select_device("auto")
    task = load_task(TASK)
    plan = make_plan(task)
    print(
        f"PyTorch {torch.__version__}, {device.type}, {torch.get_num_threads()} threads; "
        f"{arguments.steps} steps of {plan.batch_size} patches, seeds {arguments.seeds}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        labelled = labelled_cases(arguments.data, Path(temporary) / "sites")
        prepared = prepare(labelled, plan, Path(temporary) / "cache")
        order = np.random.default_rng(0).permutation(len(prepared))[N_HELD_OUT:]
        scored, cases = (
            [prepared[index] for index in part] for part in (order[:N_HELD_OUT], order[N_HELD_OUT:])
        )
        for name in arguments.only:
            choice = CHOICES[name]
            rows = [
                scores(
                    choice,
                    make_plan(task, choice.plan),
                    cases,
                    scored,
                    seed=seed,
                    steps=arguments.steps,
                    device=device,
                )
                for seed in arguments.seeds
            ]
            each = " ".join(f"{row[0]:.4f}" for row in rows)
            averaged = " ".join(f"{row[1]:.4f}" for row in rows)
            last, average, seconds = (statistics.mean(column) for column in zip(*rows, strict=True))
            print(
                f"{name:22s} Dice {last:.4f} ({each})   averaged weights {average:.4f} "
                f"({averaged})   {1000 * seconds:.0f} ms of the processor a step",
                flush=True,
            )


if __name__ == "__main__":
    main()
