"""Seconds a training step takes, by layout, stem and width, and Dice against time on real data.

    python benchmarks/training_speed.py [--data FOLDER] [--steps 600] [--seeds 1]

The data are the hippocampus volumes of the Medical Segmentation Decathlon (Task04), by default
those beside the checkout; 40 of the cases are held out. Steps are timed in turns, so that other
programs on the machine slow all variants alike; compare ratios. Times include loading and
augmentation. Seconds to a Dice count everything after the imports: preprocessing and training,
but not the scoring in between.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segfed.engine import (
    LocalTrainer,
    Plan,
    PreparedCase,
    build_network,
    make_plan,
    prepare,
    select_device,
    validation_dice,
)
from segfed.engine.device import has_bfloat16_units
from segfed.sites import LabelledCase, load_site, load_task, select_labels
from segfed.sites.imports import DataFormat, import_data_set

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "hippocampus"
TASK = ROOT / "docs" / "examples" / "hippocampus" / "hippocampus.toml"
VARIANTS: dict[str, dict[str, Any]] = {
    "full resolution, 16-32-64": {"features": (16, 32, 64), "stem_stride": 1},
    "half resolution, 16-32-64": {"features": (16, 32, 64), "stem_stride": 2},
    "half resolution, 24-48-96": {"features": (24, 48, 96), "stem_stride": 2},
    "half resolution, 32-64-128": {"features": (32, 64, 128), "stem_stride": 2},
}
N_HELD_OUT = 40
TIMED_STEPS = 5
N_SCORINGS = 6


def labelled_cases(data: Path, folder: Path) -> tuple[LabelledCase, ...]:
    """Every case of the Decathlon folder, imported into one site."""
    import_data_set(data, folder, data_format=DataFormat.MSD, task=TASK, sites={"all": None})
    site = load_site(folder / "all")
    return tuple(
        labelled
        for split in ("train", "validation", "test")
        for labelled in select_labels(site, split=split, arm="manual", required=False)
    )


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


def learn(
    plan: Plan,
    cases: Sequence[PreparedCase],
    held_out: Sequence[PreparedCase],
    *,
    seed: int,
    steps: int,
    device: torch.device,
) -> list[tuple[int, float, float]]:
    """Steps, seconds of training, and mean Dice of the anterior and posterior part."""
    run = trainer(plan, cases, seed=seed, steps=steps, device=device)
    seconds, rows = 0.0, []
    for stretch in range(N_SCORINGS):
        end = round(steps * (stretch + 1) / N_SCORINGS)
        seconds += run.run(end - run.steps_done).seconds
        dice = validation_dice(run.network, plan, held_out, device=device)
        rows.append((end, seconds, (dice["anterior"] + dice["posterior"]) / 2))
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--steps", type=int, default=600, help="optimizer steps of a training")
    parser.add_argument("--seeds", type=int, default=1, help="trainings with different seeds")
    arguments = parser.parse_args()
    device = select_device("auto")
    plan = make_plan(load_task(TASK))
    print(
        f"PyTorch {torch.__version__}, {device.type}, {torch.get_num_threads()} threads, "
        f"{'bfloat16' if has_bfloat16_units(device) else 'float32'}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        labelled = labelled_cases(arguments.data, Path(temporary) / "sites")
        started = time.perf_counter()
        prepared = prepare(labelled, plan, Path(temporary) / "cache")
        preparing = time.perf_counter() - started
        print(f"preprocessing of {len(prepared)} cases: {preparing:.1f} s")
        order = np.random.default_rng(0).permutation(len(prepared))
        held_out, train = (
            [prepared[index] for index in part] for part in (order[:N_HELD_OUT], order[N_HELD_OUT:])
        )
        plans = {
            name: plan.model_copy(update={**changes, "batch_size": 2})
            for name, changes in VARIANTS.items()
        }
        for name, seconds in time_variants(plans, train, device).items():
            print(f"{name:28s} {seconds:.3f} s a step of 2 patches")
        print(f"contiguous over channels last: {time_layouts(plan, device):.2f}")
        for seed in range(arguments.seeds):
            print(f"the task's plan {plan.features}, batch {plan.batch_size}, seed {seed}")
            for row in learn(
                plan, train, held_out, seed=seed, steps=arguments.steps, device=device
            ):
                steps, seconds, dice = row
                print(f"  {steps:5d} steps {seconds + preparing:6.0f} s   Dice {dice:.3f}")


if __name__ == "__main__":
    main()
