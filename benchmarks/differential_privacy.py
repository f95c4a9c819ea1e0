"""What a privacy budget costs in Dice: the four hippocampus sites, one federation for each budget.

    python benchmarks/differential_privacy.py RESULTS.jsonl [--data FOLDER] [--seeds 0 1]
        [--epsilons inf 64 16 8 4 2] [--rounds 4] [--steps 15] [--sampling-rate 0.25]
    python benchmarks/differential_privacy.py RESULTS.jsonl --summary [--plot FILE.svg]

Everything is the product's own: agents, their budgets, Flower's messages in one process. Sites are
those of `docs/examples/hippocampus`, the network is smaller. The unit is the patient. `inf` is the
same training without differential privacy: batches of as many patches as DP-SGD draws patients of
the mean site, no clipping by patient, no noise. The Dice is that of the last round's model on all
test cases of the sites, mean over the three structures. One run is a line of RESULTS.jsonl; runs
that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from hippocampus import DATA, TASK, import_sites
from result_lines import append, read

from federation.simulation import run_federation
from segfed.agent import Agent
from segfed.engine import (
    build_network,
    make_plan,
    prepare,
    read_plan,
    read_weights,
    to_bytes,
    validation_dice,
)
from segfed.privacy import with_noise
from segfed.protocol import Manifest, RoundRecord
from segfed.rules import PrivacyRules
from segfed.sites import Site, load_task, select_labels

SITES = {"north": 100, "east": 50, "south": 30, "west": 20}
DELTA, CLIP_NORM = 1e-4, 0.3
NETWORK: dict[str, Any] = {
    "features": (8, 16),
    "stem_stride": 1,
    "spacing_mm": (2.0, 2.0, 2.0),
    "patch_voxels": (20, 28, 20),
    "deep_supervision": False,
    "batch_size": 1,
}
"""A patient's whole crop is one patch, on voxels of 2 mm."""

CPU = torch.device("cpu")


def study(epsilon: float, seed: int, arguments: argparse.Namespace, n_mean: float) -> Manifest:
    """The federation of one budget."""
    private = None
    changes = dict(NETWORK)
    if math.isfinite(epsilon):
        private = {
            "unit": "patient",
            "epsilon": epsilon,
            "delta": DELTA,
            "clip_norm": CLIP_NORM,
            "sampling_rate": arguments.sampling_rate,
        }
    else:
        changes["batch_size"] = max(2, round(arguments.sampling_rate * n_mean))
    task = load_task(TASK)
    privacy = with_noise(
        PrivacyRules.model_validate({"differential_privacy": private}),
        rounds=arguments.rounds,
        steps_per_round=arguments.steps,
    )
    return Manifest(
        study=f"hippocampus-{time.time_ns()}",  # no budget of an earlier run of this program
        task=task.name,
        plan=make_plan(task, changes).model_dump(mode="json"),
        arm="manual",
        train_split="train",
        seed=seed,
        rounds=arguments.rounds,
        steps_per_round=arguments.steps,
        privacy=privacy,
    )


def run(epsilon: float, seed: int, arguments: argparse.Namespace, sites: Sequence[Site]) -> Any:
    """Train one federation and score its last model."""
    started = time.perf_counter()
    n_train = {site.name: len(site.split("train")) for site in sites}
    manifest = study(epsilon, seed, arguments, statistics.mean(n_train.values()))
    plan = read_plan(manifest.plan)
    network = build_network(plan, seed=seed)
    records: list[RoundRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "start.safetensors").write_bytes(to_bytes(network.state_dict()))
        run_federation(
            manifest,
            agents={site.name: Agent(site, manifest, device=CPU) for site in sites},
            initial_weights=out / "start.safetensors",
            out=out / "run",
            on_round=records.append,
        )
        last = out / "run" / f"round_{manifest.rounds:03d}.safetensors"
        network.load_state_dict(read_weights(last))
    test = [
        case
        for site in sites
        for case in prepare(
            select_labels(site, split="test", arm="manual"), plan, site.folder / "cache"
        )
    ]
    dice = validation_dice(network, plan, test, device=CPU)
    private = manifest.privacy.differential_privacy
    return {
        "epsilon": epsilon if math.isfinite(epsilon) else "inf",
        "seed": seed,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "sampling_rate": arguments.sampling_rate,
        "noise_multiplier": private.noise_multiplier if private else 0.0,
        "spent": {name: values.get("epsilon") for name, values in records[-1].sites.items()},
        "n_train": n_train,
        "n_test": len(test),
        "n_weights": sum(value.numel() for value in network.state_dict().values()),
        "dice": dice,
        "mean_dice": statistics.mean(value for value in dice.values() if math.isfinite(value)),
        "by_round": [record.validation_dice for record in records],
        "seconds": time.perf_counter() - started,
    }


def summarise(done: list[dict[str, Any]], plot: Path | None) -> None:
    """Print the table as Markdown, and draw it."""
    names = list(done[0]["dice"])
    print(f"| epsilon | noise multiplier | seeds | {' | '.join(names)} | mean |")
    print("|---|---|---|" + "---|" * (len(names) + 1))
    points = []
    for epsilon in sorted({float(item["epsilon"]) for item in done}, reverse=True):
        found = [item for item in done if float(item["epsilon"]) == epsilon]
        means = [item["mean_dice"] for item in found]
        cells = [f"{statistics.mean(item['dice'][name] for item in found):.3f}" for name in names]
        spread = f"{statistics.mean(means):.3f} ({min(means):.3f} to {max(means):.3f})"
        noise = found[0]["noise_multiplier"]
        print(
            f"| {'none' if math.isinf(epsilon) else f'{epsilon:g}'} | {noise:.3g} | {len(found)} "
            f"| {' | '.join(cells)} | {spread} |"
        )
        points.append((epsilon, means))
    if plot is not None:
        draw(points, plot)


def draw(points: list[tuple[float, list[float]]], path: Path) -> None:
    """Dice against epsilon; the training without a budget is a line."""
    plt.rcParams["svg.hashsalt"] = "segfed"
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    finite = [(epsilon, means) for epsilon, means in points if math.isfinite(epsilon)]
    for epsilon, means in finite:
        axes.plot([epsilon] * len(means), means, "o", color="#1f6f8b", alpha=0.5, markersize=4)
    axes.plot(
        [epsilon for epsilon, _ in finite],
        [statistics.mean(means) for _, means in finite],
        color="#1f6f8b",
        label="differential privacy, unit patient",
    )
    for epsilon, means in points:
        if math.isinf(epsilon):
            axes.axhline(
                statistics.mean(means), color="#b5533c", linestyle="--", label="no noise, no budget"
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks([epsilon for epsilon, _ in finite])
    axes.set_xticklabels([f"{epsilon:g}" for epsilon, _ in finite])
    axes.set_xlabel("epsilon (less is more private)")
    axes.set_ylabel("mean Dice, test cases")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--sites", type=Path, help="where the imported sites are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--epsilons", type=float, nargs="+", default=[math.inf, 64.0, 16.0, 8.0, 4.0, 2.0]
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--sampling-rate", type=float, default=0.25)
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    done = read(arguments.results)
    if arguments.summary:
        summarise(done, arguments.plot)
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    known = {(float(item["epsilon"]), item["seed"]) for item in done}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.sites or Path(temporary) / "sites"
        sites = import_sites(arguments.data, folder, sites=SITES)
        for seed in arguments.seeds:
            for epsilon in arguments.epsilons:
                if (epsilon, seed) not in known:
                    append(arguments.results, run(epsilon, seed, arguments, sites))


if __name__ == "__main__":
    main()
