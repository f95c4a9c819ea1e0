"""Dice on held-out cases by optimizer, and what averaged weights add, at equal steps.

    python benchmarks/optimizers.py [--data FOLDER] [--steps 300] [--seeds 2]

Data and split are those of `training_speed.py`. Every optimizer trains the task's plan from the
same weights on the same patches: AdamW as the engine has it (warm-up, then half a cosine), and SGD
with Nesterov momentum and polynomial decay as nnU-Net has it, with two momenta. Beside each the
exponential moving average of its weights is scored, too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from training_speed import DATA, N_HELD_OUT, TASK, labelled_cases

from segfed.engine import (
    LocalTrainer,
    Plan,
    PreparedCase,
    build_network,
    make_plan,
    prepare,
    select_device,
    training,
    validation_dice,
)
from segfed.sites import load_task

AVERAGE_DECAY = 0.98
POLYNOMIAL = 0.9
COSINE = training.schedule


def polynomial(step: int, total_steps: int) -> float:
    """nnU-Net's decay of the learning rate."""
    return max(1 - step / total_steps, 0) ** POLYNOMIAL


def sgd(rate: float, momentum: float) -> Callable[[LocalTrainer], None]:
    """What gives a trainer another optimizer."""

    def replace(run: LocalTrainer) -> None:
        run.plan = run.plan.model_copy(update={"learning_rate": rate})
        run._optimizer = torch.optim.SGD(
            run.network.parameters(), lr=rate, momentum=momentum, nesterov=True, weight_decay=3e-5
        )
        training.schedule = polynomial

    return replace


def adamw(_: LocalTrainer) -> None:
    """The engine's own."""
    training.schedule = COSINE


OPTIMIZERS: dict[str, Callable[[LocalTrainer], None]] = {
    "AdamW 0.01, cosine": adamw,
    "SGD 0.01, 0.99, poly": sgd(0.01, 0.99),
    "SGD 0.05, 0.9, poly": sgd(0.05, 0.9),
}


def scores(
    name: str,
    plan: Plan,
    cases: Sequence[PreparedCase],
    held_out: Sequence[PreparedCase],
    *,
    seed: int,
    steps: int,
    device: torch.device,
) -> tuple[float, float, float]:
    """Dice of the last weights and of their average, and seconds of training."""
    network = build_network(plan, seed=seed)
    run = LocalTrainer(plan, cases, network=network, seed=seed, total_steps=steps, device=device)
    OPTIMIZERS[name](run)
    average = {key: value.clone() for key, value in network.state_dict().items()}

    def follow(step: int, _: float) -> None:
        # At first the average forgets faster, or random weights would stay in it.
        decay = min(AVERAGE_DECAY, step / (step + 10))
        for key, value in network.state_dict().items():
            average[key].lerp_(value, 1 - decay)

    seconds = run.run(steps, follow).seconds

    def mean_dice() -> float:
        dice = validation_dice(network, plan, held_out, device=device)
        return (dice["anterior"] + dice["posterior"]) / 2

    last = mean_dice()
    network.load_state_dict(average)
    return last, mean_dice(), seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps of a training")
    parser.add_argument("--seeds", type=int, default=2, help="trainings with different seeds")
    arguments = parser.parse_args()
    device = select_device("auto")
    plan = make_plan(load_task(TASK))
    print(
        f"PyTorch {torch.__version__}, {device.type}, {torch.get_num_threads()} threads; "
        f"{arguments.steps} steps of {plan.batch_size} patches, {arguments.seeds} seed(s)"
    )
    with tempfile.TemporaryDirectory() as temporary:
        labelled = labelled_cases(arguments.data, Path(temporary) / "sites")
        prepared = prepare(labelled, plan, Path(temporary) / "cache")
        order = np.random.default_rng(0).permutation(len(prepared))
        held_out, cases = (
            [prepared[index] for index in part] for part in (order[:N_HELD_OUT], order[N_HELD_OUT:])
        )
        for name in OPTIMIZERS:
            rows = [
                scores(name, plan, cases, held_out, seed=seed, steps=arguments.steps, device=device)
                for seed in range(arguments.seeds)
            ]
            each = " ".join(f"{row[0]:.3f}" for row in rows)
            last, average, seconds = (statistics.mean(column) for column in zip(*rows, strict=True))
            print(
                f"{name:22s} Dice {last:.3f} ({each})   averaged weights {average:.3f}   "
                f"{seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
