"""Seconds a training step takes, by layout, stem and width, and Dice against time on real data.

    python benchmarks/training_speed.py [--minutes 2.5 12] [--seeds 3] [--of segfed MONAI]

The data are the hippocampus volumes of the Medical Segmentation Decathlon (Task04), by default
those beside the checkout; 40 of the cases are held out, and served no choice of a setting. Steps
are timed in turns, so that other programs on the machine slow all variants alike; compare ratios.
Times include loading and augmentation.

A training gets a budget of minutes for everything: start of the process with its imports,
preprocessing, and the steps, whose number follows from the time that a few of them take. Scoring in
between is not counted. The last score comes again from labels on the images' own grids, predicted
as they are and mirrored, too (`segfed predict --mirror`). With `--of segfed MONAI` MONAI's tutorial
pipeline gets the same budget, see `monai_tutorial.py`. Run it on a machine that does nothing else.

A plan is chosen with `--tune --plan '{"features": [32, 64, 128], "batch_size": 4}'`, which leaves
the held-out cases alone: 120 of the others are trained on, and 40 are scored.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai_tutorial
import numpy as np
import psutil
import torch
from hippocampus import DATA, TASK, labelled_cases, mean_dice

from segfed.engine import (
    LocalTrainer,
    Plan,
    PreparedCase,
    build_network,
    make_plan,
    predict_label,
    prepare,
    select_device,
    validation_dice,
)
from segfed.engine.device import has_bfloat16_units
from segfed.evaluation import dice
from segfed.sites import LabelledCase, load_task
from segfed.volumes import read_channels, read_label

VARIANTS: dict[str, dict[str, Any]] = {
    "full resolution, 16-32-64": {"features": (16, 32, 64), "stem_stride": 1},
    "half resolution, 16-32-64": {"features": (16, 32, 64), "stem_stride": 2},
    "half resolution, 24-48-96": {"features": (24, 48, 96), "stem_stride": 2},
    "half resolution, 32-64-128": {"features": (32, 64, 128), "stem_stride": 2},
}
N_HELD_OUT = 40
TIMED_STEPS = 5
N_SCORINGS = 12
TRIAL_STEPS = 20
LEVEL = 0.866


def trainer(
    plan: Plan, cases: Sequence[PreparedCase], *, seed: int, steps: int, device: torch.device
) -> LocalTrainer:
    """A trainer at its first step."""
    network = build_network(plan, seed=seed)
    return LocalTrainer(plan, cases, network=network, seed=seed, total_steps=steps, device=device)


def time_variants(
    plans: Mapping[str, Plan], cases: Sequence[PreparedCase], device: torch.device
) -> dict[str, float]:
    """Median seconds of a step of each plan, the plans taking turns."""
    runs = {
        name: trainer(plan, cases, seed=0, steps=100, device=device) for name, plan in plans.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(TIMED_STEPS + 1):
        for name, run in runs.items():
            taken = run.run(1).seconds
            if turn:  # the first step also plans convolutions and fills caches
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def time_layouts(plan: Plan, device: torch.device) -> float:
    """Seconds forward and backward with contiguous tensors over those with channels last."""
    shape = (plan.batch_size, len(plan.channels), *plan.patch_voxels)
    seconds: dict[torch.memory_format, list[float]] = {
        torch.contiguous_format: [],
        torch.channels_last_3d: [],
    }
    for _ in range(TIMED_STEPS + 1):
        for layout, taken in seconds.items():
            network = build_network(plan, seed=0).to(device).to(memory_format=layout)
            image = torch.randn(shape, device=device).contiguous(memory_format=layout)
            network(image).mean().backward()
            started = time.perf_counter()
            network(image).mean().backward()
            taken.append(time.perf_counter() - started)
    contiguous, channels_last = (statistics.median(values) for values in seconds.values())
    return contiguous / channels_last


@dataclass(frozen=True)
class Score:
    """Where a training stands."""

    steps: int
    seconds: float
    """Since the process was started, but for scoring."""

    dice: float
    """Mean of the anterior and the posterior part over the held-out cases."""


def score_labels(
    network: torch.nn.Module, plan: Plan, cases: Sequence[LabelledCase], device: torch.device
) -> None:
    """Print the Dice of labels on the images' own grids, without and with mirroring."""
    for axes in ((), plan.mirror_axes):
        rows = []
        for labelled in cases:
            volume = read_channels(labelled.case.channels)
            label = read_label(labelled.label_path).data[0]
            predicted = predict_label([network], plan, volume, device=device, mirror_axes=axes)
            rows.append([dice(label == v, predicted.data[0] == v) for v in plan.labels.values()])
        mirrored = f"mirrored along axes {axes}" if axes else "not mirrored"
        print(f"  on the images' own grids, {mirrored}: Dice {np.mean(rows):.4f}", flush=True)


def learn(
    plan: Plan,
    cases: Sequence[PreparedCase],
    held_out: Sequence[PreparedCase],
    own_grids: Sequence[LabelledCase],
    *,
    seed: int,
    spent: float,
    budget: float,
    device: torch.device,
) -> Iterator[Score]:
    """Scores along a training that ends when the budget's seconds are spent."""
    trial = trainer(plan, cases, seed=seed, steps=TRIAL_STEPS, device=device)
    spent += trial.run(TRIAL_STEPS // 2).seconds  # these also plan convolutions and fill caches
    tried = trial.run(TRIAL_STEPS // 2).seconds
    spent += tried
    steps = max(1, int((budget - spent) / tried * (TRIAL_STEPS // 2)))
    run = trainer(plan, cases, seed=seed, steps=steps, device=device)
    for end in score_steps(steps):
        left = max(0.0, budget - spent)
        spent += run.run(end - run.steps_done, seconds=left).seconds
        scores = validation_dice(run.network, plan, held_out, device=device)
        yield Score(run.steps_done, spent, mean_dice(scores))
    score_labels(run.network, plan, own_grids, device)


def learn_tutorial(
    plan: Plan,
    cases: Sequence[LabelledCase],
    held_out: Sequence[LabelledCase],
    *,
    seed: int,
    spent: float,
    budget: float,
) -> Iterator[Score]:
    """As ``learn``, by MONAI's pipeline."""
    scored = monai_tutorial.loaded(held_out, plan, random=False)
    started = time.perf_counter()
    data = monai_tutorial.loaded(cases, plan, random=True)
    trial = monai_tutorial.Tutorial(plan, data, seed=seed)
    trial.run(TRIAL_STEPS // 2, total=TRIAL_STEPS, seconds=budget)
    tried = trial.run(TRIAL_STEPS // 2, total=TRIAL_STEPS, seconds=budget)
    run = monai_tutorial.Tutorial(plan, data, seed=seed)
    spent += time.perf_counter() - started
    steps = max(1, int((budget - spent) / tried * (TRIAL_STEPS // 2)))
    for end in score_steps(steps):
        left = max(0.0, budget - spent)
        spent += run.run(end - run.steps_done, total=steps, seconds=left)
        yield Score(run.steps_done, spent, run.dice(scored))
    print(f"  mirrored along axes {plan.mirror_axes}: Dice {run.dice(scored, mirrored=True):.4f}")


def score_steps(steps: int) -> list[int]:
    """After which steps a training is scored."""
    return [round(steps * (n + 1) / N_SCORINGS) for n in range(N_SCORINGS)]


def show(name: str, scores: Iterable[Score]) -> Score:
    """Print the scores of a training as they come, and when it crossed the level; the last one."""
    crossed = None
    for score in scores:
        print(
            f"  {score.steps:6d} steps {score.seconds:6.0f} s   Dice {score.dice:.4f}", flush=True
        )
        if crossed is None and score.dice >= LEVEL:
            crossed = score.seconds
    reached = "not reached" if crossed is None else f"seen after {crossed:.0f} s"
    print(f"{name}: Dice {score.dice:.4f} after {score.seconds:.0f} s; {LEVEL} {reached}")
    return score


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.5], help="in all")
    parser.add_argument("--seeds", type=int, default=1, help="trainings with different seeds")
    parser.add_argument("--of", nargs="+", choices=["segfed", "MONAI"], default=["segfed"])
    parser.add_argument("--plan", type=json.loads, default={}, help="settings to try, as JSON")
    parser.add_argument("--tune", action="store_true", help="score other cases, to choose a plan")
    parser.add_argument("--no-steps", action="store_true", help="leave out the seconds of a step")
    arguments = parser.parse_args()
    starting = time.time() - psutil.Process().create_time()
    device = select_device("auto")
    plan = make_plan(load_task(TASK), arguments.plan)
    print(
        f"PyTorch {torch.__version__}, {device.type}, {torch.get_num_threads()} threads, "
        f"{'bfloat16' if has_bfloat16_units(device) else 'float32'}; started in {starting:.1f} s"
    )
    with tempfile.TemporaryDirectory() as temporary:
        labelled = labelled_cases(arguments.data, Path(temporary) / "sites")
        started = time.perf_counter()
        prepared = prepare(labelled, plan, Path(temporary) / "cache")
        preparing = time.perf_counter() - started
        print(f"preprocessing of {len(prepared)} cases: {preparing:.1f} s")
        order = np.random.default_rng(0).permutation(len(prepared))
        if arguments.tune:
            order = order[N_HELD_OUT:]
        held_out, train = order[:N_HELD_OUT], order[N_HELD_OUT:]
        if not arguments.no_steps:
            print_steps(plan, [prepared[index] for index in train], device)
        print(
            f"the task's plan: features {plan.features}, stem {plan.stem_stride}, batch "
            f"{plan.batch_size}, learning rate {plan.learning_rate:g}; {arguments.seeds} seed(s)"
        )
        trainings: dict[str, Callable[[int, float], Iterator[Score]]] = {
            "segfed": lambda seed, budget: learn(
                plan,
                [prepared[index] for index in train],
                [prepared[index] for index in held_out],
                [labelled[index] for index in held_out],
                seed=seed,
                spent=starting + preparing,
                budget=budget,
                device=device,
            ),
            "MONAI": lambda seed, budget: learn_tutorial(
                plan,
                [labelled[index] for index in train],
                [labelled[index] for index in held_out],
                seed=seed,
                spent=starting,
                budget=budget,
            ),
        }
        for minutes in arguments.minutes:
            last: dict[str, list[float]] = {}
            for seed in range(arguments.seeds):
                for name in arguments.of:
                    scores = trainings[name](seed, 60 * minutes)
                    final = show(f"{name}, {minutes:g} minutes, seed {seed}", scores)
                    last.setdefault(name, []).append(final.dice)
            for name, values in last.items():
                each = " ".join(f"{value:.4f}" for value in values)
                print(
                    f"{name}, {minutes:g} minutes, mean of {len(values)} seed(s): "
                    f"{statistics.mean(values):.4f} ({each})",
                    flush=True,
                )


def print_steps(plan: Plan, cases: Sequence[PreparedCase], device: torch.device) -> None:
    """Seconds of a step by stem, width and layout."""
    plans = {
        name: plan.model_copy(update={**changes, "batch_size": 2})
        for name, changes in VARIANTS.items()
    }
    for name, seconds in time_variants(plans, cases, device).items():
        print(f"{name:28s} {seconds:.3f} s a step of 2 patches")
    print(f"contiguous over channels last: {time_layouts(plan, device):.2f}")


if __name__ == "__main__":
    main()
