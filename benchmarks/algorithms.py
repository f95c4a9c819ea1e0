"""Dice, bytes and steps of every federated algorithm, beside local, pooled and ensemble models.

    python benchmarks/algorithms.py RESULTS.jsonl [--data FOLDER] [--seeds 0 1 2] [--only fedavg]
    python benchmarks/algorithms.py RESULTS.jsonl --summary

The hippocampus volumes of the Medical Segmentation Decathlon, by default those beside the checkout,
at 2 mm (with `--full-size` at 1 mm and with the task's own plan; take another file), are dealt to
four uneven sites whose scanners differ in gamma, bias field and slice thickness: what normalising
intensities does not undo. A seed decides who gets which case, the first weights and the patches;
the scanners are always the same. Flower's messages, the server and its arithmetic are the project's
own; only the sites' agents are cut down to training in memory.

All models are those of the last step: nothing is chosen by its Dice. One training is a line of
RESULTS.jsonl; those that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hippocampus import DATA, TASK
from result_lines import append, read
from safetensors.torch import save_file
from uneven_sites import N_TEST, SCANNERS, Cases, deal, read_cases

from federation.simulation import run_federation
from segfed.agent.correction import split_correction
from segfed.agent.held_model import with_model
from segfed.engine import (
    LocalTrainer,
    Plan,
    PreparedCase,
    State,
    UNet,
    build_network,
    from_bytes,
    make_plan,
    personal_part,
    to_bytes,
)
from segfed.evaluation import dice
from segfed.protocol import Manifest, RoundRecord, RoundReply, RoundRequest
from segfed.sites import load_task

CPU = torch.device("cpu")
STRUCTURES = {"anterior": 1, "posterior": 2}
CHANGES = {
    "spacing_mm": (2.0, 2.0, 2.0),
    "patch_voxels": (20, 28, 20),
    "features": (16, 32),
    "stem_stride": 2,
}
ROUNDS, STEPS = 20, 8
N_SCORED = 10
LEVELS = (0.70, 0.75, 0.78)

METHODS: dict[str, dict[str, Any]] = {
    "FedAvg, 80 rounds": {"rounds": 80},
    "FedAvg by steps, 80 rounds": {"rounds": 80, "weighting": "steps"},
    "FedAvg by steps, 160 rounds": {"rounds": 160, "weighting": "steps"},
    "FedAvg by steps, 160 rounds of 4": {"rounds": 160, "steps": 4, "weighting": "steps"},
    "FedPIDAvg, 80 rounds": {"rounds": 80, "weighting": "fedpidavg"},
    "FedBN, 80 rounds": {"rounds": 80, "personal": ["norm"]},
    "FedCostWAvg, 80 rounds": {"rounds": 80, "weighting": "fedcostwavg"},
    "FedProx, 80 rounds": {"rounds": 80, "proximal_mu": 0.01},
    "SCAFFOLD, 80 rounds": {"rounds": 80, "algorithm": "scaffold"},
    "FedAvgM, momentum 0.5, 80 rounds": {
        "rounds": 80,
        "algorithm": "fedavgm",
        "server_momentum": 0.5,
    },
    "FedAdam, 80 rounds": {"rounds": 80, "algorithm": "fedadam", "server_learning_rate": 0.01},
    "FedYogi, 80 rounds": {"rounds": 80, "algorithm": "fedyogi", "server_learning_rate": 0.01},
    "FedAvg": {},
    "FedAvg by steps": {"weighting": "steps"},
    "FedAvg, rate 0.03": {"learning_rate": 0.03},
    "FedProx": {"proximal_mu": 0.01},
    "FedAvgM, momentum 0.5": {"algorithm": "fedavgm", "server_momentum": 0.5},
    "FedAvgM": {"algorithm": "fedavgm"},
    "FedAdam": {"algorithm": "fedadam", "server_learning_rate": 0.01},
    "FedYogi": {"algorithm": "fedyogi", "server_learning_rate": 0.01},
    "SCAFFOLD": {"algorithm": "scaffold"},
    "FedBN": {"personal": ["norm"]},
    "FedCostWAvg": {"weighting": "fedcostwavg"},
    "FedPIDAvg": {"weighting": "fedpidavg"},
}


ALONE = ("local x1", "local x4", "local x8", "pooled x1", "pooled x4", "pooled x8")
"""Times the steps that a site, or all sites together, take in a federation of 20 rounds."""


@torch.inference_mode()
def score(networks: Sequence[UNet], cases: Cases) -> float:
    """Mean Dice of the two parts over a site's test cases, of averaged probabilities."""
    predicted = sum(net.eval()(cases.images).softmax(dim=1) for net in networks).argmax(1)  # type: ignore[union-attr]
    values = [
        dice(reference.numpy() == value, found.numpy() == value)
        for reference, found in zip(cases.labels, predicted, strict=True)
        for value in STRUCTURES.values()
    ]
    return float(np.nanmean(values))


@dataclass
class MemoryAgent:
    """A site that trains in memory, and is scored on its test cases after every round."""

    cases: Cases
    trainer: LocalTrainer
    manifest: Manifest
    own: State = field(default_factory=dict)
    """Personal layers after the last round."""

    scored: bytes = b""
    """The last model that was scored."""

    def answer(self, request: RoundRequest) -> RoundReply:
        """Train a round, or score the model."""
        if request.held_sha256:
            request = with_model(request, self.scored)
        rules, network = self.manifest.federation, self.trainer.network
        state, correction = split_correction(
            from_bytes(request.weights), network, algorithm=rules.algorithm
        )
        self.trainer.load_weights({**state, **self.own})
        if request.verb == "validate":
            self.scored = request.weights
            if request.round % (self.manifest.rounds // N_SCORED):
                return RoundReply(b"", 0, {})
            value = score([network], self.cases)
            return RoundReply(b"", N_TEST, {"dice_hippocampus": value})
        self.trainer.steps_done = (request.round - 1) * self.manifest.steps_per_round
        summary = self.trainer.run(
            self.manifest.steps_per_round,
            proximal_mu=rules.proximal_mu,
            correction=correction,
        )
        self.own = personal_part(self.trainer.weights(), network, rules.personal)
        metrics = {"loss": round(summary.loss, 4), "steps": float(summary.steps)}
        return RoundReply(to_bytes(self.trainer.weights()), summary.n_cases, metrics)


def trainer(plan: Plan, cases: Sequence[PreparedCase], *, seed: int, name: str, steps: int) -> Any:
    """A trainer at its first step; all models of a seed start from the same weights."""
    return LocalTrainer(
        plan,
        cases,
        network=build_network(plan, seed=seed),
        seed=seed * 1000 + [*SCANNERS, "pooled"].index(name),
        total_steps=steps,
        device=CPU,
    )


def federated(
    plan: Plan, sites: Mapping[str, Cases], seed: int, rules: dict[str, Any]
) -> dict[str, Any]:
    """A federation's Dice by site after each round, and what it sent."""
    rules = dict(rules)
    rounds, steps = rules.pop("rounds", ROUNDS), rules.pop("steps", STEPS)
    rate = rules.pop("learning_rate", plan.learning_rate)
    plan = plan.model_copy(update={"learning_rate": rate})
    manifest = Manifest(
        study="algorithms",
        task=plan.task,
        plan=plan.model_dump(mode="json"),
        arm="manual",
        train_split="train",
        seed=seed,
        rounds=rounds,
        steps_per_round=steps,
        federation=rules,  # type: ignore[arg-type]
    )
    agents = {
        name: MemoryAgent(
            cases, trainer(plan, cases.train, seed=seed, name=name, steps=rounds * steps), manifest
        )
        for name, cases in sites.items()
    }
    records: list[RoundRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.safetensors"
        save_file(build_network(plan, seed=seed).state_dict(), start)
        run_federation(
            manifest,
            agents=agents,
            initial_weights=start,
            out=Path(folder) / "run",
            on_round=records.append,
        )
    curve = [
        {
            "dice": {name: site.get("dice_hippocampus") for name, site in record.sites.items()},
            "bytes": sum(
                (site["bytes_down"] or 0) + (site["bytes_up"] or 0)
                for site in record.sites.values()
            ),
        }
        for record in records
    ]
    if any(record.dropped for record in records):
        raise RuntimeError(f"sites were dropped: {[record.dropped for record in records]}")
    return {"dice": curve[-1]["dice"], "curve": curve, "steps": steps}


def alone(
    plan: Plan, sites: Mapping[str, Cases], seed: int, *, factor: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Local models and their ensemble: Dice by site; ``factor`` times a site's federated steps."""
    networks = {}
    for name, cases in sites.items():
        run = trainer(plan, cases.train, seed=seed, name=name, steps=factor * ROUNDS * STEPS)
        run.run(run.total_steps)
        networks[name] = run.network
    matrix = {
        name: {test: score([network], cases) for test, cases in sites.items()}
        for name, network in networks.items()
    }
    together = {test: score(list(networks.values()), cases) for test, cases in sites.items()}
    return {"matrix": matrix}, {"dice": together}


def pooled(plan: Plan, sites: Mapping[str, Cases], seed: int, *, factor: int) -> dict[str, Any]:
    """One model of all cases, with ``factor`` times as many steps as all sites take together."""
    cases = [case for site in sites.values() for case in site.train]
    total = factor * len(sites) * ROUNDS * STEPS
    run = trainer(plan, cases, seed=seed, name="pooled", steps=total)
    run.run(run.total_steps)
    return {"dice": {name: score([run.network], site) for name, site in sites.items()}}


def mean(dice_by_site: Mapping[str, float]) -> float:
    """Over the sites, each counting the same: they have as many test cases."""
    return statistics.fmean(dice_by_site.values())


def summarise(done: Sequence[dict[str, Any]]) -> None:
    """Print the table, as Markdown."""
    by_method: dict[str, dict[int, dict[str, Any]]] = {}
    for item in done:
        if "matrix" in item:
            models = item["matrix"].values()
            best = max(models, key=mean)
            average = {site: statistics.fmean(m[site] for m in models) for site in SCANNERS}
            for name, values in (("best", best), ("mean", average)):
                row = {**item, "dice": values}
                by_method.setdefault(f"{name} {item['method']}", {})[item["seed"]] = row
        else:
            by_method.setdefault(item["method"], {})[item["seed"]] = item
    print("| | Dice (seeds) | Worst site | Gap closed | MB a round | MB and steps to Dice |")
    print("|---|---|---|---|---|---|")
    for method, runs in by_method.items():
        values = [mean(runs[seed]["dice"]) for seed in sorted(runs)]
        each = ", ".join(f"{value:.3f}" for value in values)
        worst = statistics.fmean(min(run["dice"].values()) for run in runs.values())
        print(
            f"| {method} | {statistics.fmean(values):.3f} ({each}) | {worst:.3f} "
            f"| {gap_closed(by_method, runs)} | {traffic(runs)} |"
        )


def gap_closed(
    by_method: Mapping[str, Mapping[int, dict[str, Any]]], runs: Mapping[int, dict[str, Any]]
) -> str:
    """Share of the way from the mean and from the best local model to the pooled one.

    Over the seeds that have all three, the local and pooled models being those of most steps; left
    out where a model does not come as far as the local one.
    """
    shares = []
    for local in ("mean local x4", "best local x4"):
        low, high = by_method.get(local, {}), by_method.get("pooled x4", {})
        seeds = runs.keys() & low.keys() & high.keys()
        gap = sum(mean(high[seed]["dice"]) - mean(low[seed]["dice"]) for seed in seeds)
        way = sum(mean(runs[seed]["dice"]) - mean(low[seed]["dice"]) for seed in seeds)
        if gap and way >= 0:
            shares.append(f"{way / gap:.0%}")
    return " / ".join(shares)


def traffic(runs: Mapping[int, dict[str, Any]]) -> str:
    """Megabytes of all sites in a round, and to each level that every seed stays above once."""
    federations = [run for run in runs.values() if "curve" in run]
    if not federations:
        return " | "
    a_round = statistics.fmean(f["curve"][-1]["bytes"] for f in federations) / 1e6
    reached = [_reached(federations, level) for level in LEVELS]
    return f"{a_round:.1f} | {', '.join(filter(None, reached))}"


def _reached(federations: Sequence[dict[str, Any]], level: float) -> str:
    """Megabytes and steps a site until each seed's Dice reached a level, on average."""
    ends = []
    for run in federations:
        scored = [n for n, point in enumerate(run["curve"]) if None not in point["dice"].values()]
        hits = [n for n in scored if mean(run["curve"][n]["dice"]) >= level]
        if not hits:
            return ""
        ends.append((hits[0] + 1, sum(point["bytes"] for point in run["curve"][: hits[0] + 1])))
    size = statistics.fmean(size for _, size in ends) / 1e6
    steps = statistics.fmean(n for n, _ in ends) * federations[0]["steps"]
    return f"{level:.2f}: {size:.0f} MB, {steps:.0f}"


def train(name: str, plan: Plan, sites: Mapping[str, Cases], seed: int) -> list[dict[str, Any]]:
    """The results of one method; local models bring their ensemble along."""
    started = time.process_time()
    if name.startswith("local"):
        factor = int(name.split(" x")[1])
        local, ensemble = alone(plan, sites, seed, factor=factor)
        found = {name: local, f"ensemble x{factor}": ensemble}
    elif name.startswith("pooled"):
        found = {name: pooled(plan, sites, seed, factor=int(name.split(" x")[1]))}
    else:
        found = {name: federated(plan, sites, seed, METHODS[name])}
    seconds = round(time.process_time() - started, 1)
    return [
        {"method": key, "seed": seed, "cpu_s": seconds, **value} for key, value in found.items()
    ]


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[*ALONE, *METHODS], metavar="METHOD")
    parser.add_argument("--full-size", action="store_true", help="voxels of 1 mm, the task's plan")
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    if arguments.summary:
        summarise([item for item in read(arguments.results) if item["seed"] in arguments.seeds])
        return
    if not (arguments.data / "dataset.json").exists():
        print(f"Skipped: no dataset.json in {arguments.data}. Name the folder with --data.")
        return
    torch.set_num_threads(1)
    plan = make_plan(load_task(TASK), {} if arguments.full_size else CHANGES)
    cases = read_cases(arguments.data)
    known = {(item["method"], item["seed"]) for item in read(arguments.results)}
    for seed in arguments.seeds:
        sites = deal(cases, seed, spacing_mm=1 if arguments.full_size else 2)
        for name in arguments.only:
            if (name, seed) not in known:
                for result in train(name, plan, sites, seed):
                    append(arguments.results, result)


if __name__ == "__main__":
    main()
