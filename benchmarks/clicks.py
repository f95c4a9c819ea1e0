"""Dice of the tumor after 0, 1, 2, 3 and 5 clicks, on synthetic kidney tumors.

    OMP_NUM_THREADS=1 python benchmarks/clicks.py [--seeds 2] [--steps 300] [--click-steps 300]

For each seed: synthetic sites, a model that proposes, trained on their training cases, and the
model that takes clicks, trained from it on the same cases as `segfed train --clicks tumor` does.
Test cases, which neither has seen, are clicked by a simulated reader in the middle of the largest
error, and computed as the label server does. Dice is that of the drawn test labels, on the grid of
the network.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from segfed.engine import (
    Plan,
    PreparedCase,
    build_network,
    dice_after_clicks,
    make_plan,
    prepare,
    train_local,
    with_click_inputs,
)
from segfed.phantom import CaseCounts, generate_sites
from segfed.protocol import Split
from segfed.sites import Site, select_labels
from segfed.study.demo import SCALES
from segfed.study.fine_tune import CLICK_RATE_FRACTION

TASK, LABEL = "kidney_tumor", "tumor"
SCALE = SCALES[TASK]
SHOWN = (0, 1, 2, 3, 5)
CPU = torch.device("cpu")


def prepared(
    sites: Sequence[Site], split: Split, plan: Plan, folder: Path
) -> tuple[PreparedCase, ...]:
    """The labelled cases of a split of all sites."""
    labelled = [case for site in sites for case in select_labels(site, split=split, arm="manual")]
    return prepare(labelled, plan, folder)


def measure(seed: int, *, steps: int, click_steps: int, folder: Path) -> list[list[float]]:
    """Dice of each test case after 0 to 5 clicks."""
    sites = generate_sites(
        folder / "sites",
        task=TASK,
        n_sites=2,
        n_external=0,
        counts=CaseCounts(warmup=1, train=8, validation=2, test=10),
        spacing_mm=SCALE.spacing_mm,
        seed=seed,
    )
    plan = make_plan(sites[0].task, SCALE.plan)
    train, validation, test = (
        prepared(sites, split, plan, folder / "cache") for split in ("train", "validation", "test")
    )
    network, started = build_network(plan, seed=seed), time.perf_counter()
    options = {"validation": validation, "seed": seed, "device": CPU}
    state, _ = train_local(plan, train, network=network, total_steps=steps, **options)
    rate = plan.learning_rate * CLICK_RATE_FRACTION
    click_plan = plan.model_copy(update={"click_label": LABEL, "learning_rate": rate})
    value = plan.labels[LABEL]
    helper = build_network(click_plan, seed=seed)
    helper.load_state_dict(with_click_inputs(state, helper))
    before = [
        dice_after_clicks(helper, click_plan, case, value=value, n_clicks=0, device=CPU)[0]
        for case in test
    ]
    between = time.perf_counter()
    state, summary = train_local(
        click_plan, train, network=helper, total_steps=click_steps, **options
    )
    helper.load_state_dict(state)
    ended = time.perf_counter()
    rows = [
        dice_after_clicks(helper, click_plan, case, value=value, n_clicks=max(SHOWN), device=CPU)
        for case in test
    ]
    print(
        f"seed {seed}: {len(train)} training, {len(validation)} validation, {len(test)} test "
        f"cases; proposing model {steps} steps in {between - started:.0f} s, test Dice "
        f"{np.nanmean(before):.3f}; with clicks {click_steps} more steps in "
        f"{ended - between:.0f} s, best at {summary.best_step}"
    )
    print_table(rows)
    return rows


def print_table(rows: Sequence[Sequence[float]]) -> None:
    """Mean, quartile and number of cases after each number of clicks."""
    print("clicks  mean   lower quartile  worst   cases (NaN)")
    for clicks in SHOWN:
        values = [row[clicks] for row in rows]
        finite = [value for value in values if math.isfinite(value)]
        print(
            f"{clicks:4d}    {np.mean(finite):.3f}      {np.quantile(finite, 0.25):.3f}       "
            f"{min(finite):.3f}   {len(finite)} ({len(values) - len(finite)})"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2, help="data sets and trainings")
    parser.add_argument("--steps", type=int, default=300, help="steps of the proposing model")
    parser.add_argument("--click-steps", type=int, default=300, help="steps with clicks")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as temporary:
            rows += measure(
                seed,
                steps=arguments.steps,
                click_steps=arguments.click_steps,
                folder=Path(temporary),
            )
    print(f"all {arguments.seeds} seeds")
    print_table(rows)


if __name__ == "__main__":
    main()
