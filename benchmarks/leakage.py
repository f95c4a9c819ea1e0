"""Whom a model gives away that was trained on them, alone, in a federation, and clipped.

    python benchmarks/leakage.py RESULTS.jsonl [--sites FOLDER...] [--seeds 0 1 2] [--steps 120]
    python benchmarks/leakage.py RESULTS.jsonl --summary

Real cases with a small plan: each site trains a model of its own, and all sites train one together
by FedAvg in as many steps, openly and with clipped updates. Members are the training patients,
others the test patients of the same sites. One seed is a line of RESULTS.jsonl. The sites are those
of ``segfed site import … --format msd``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from segfed.attacks import Candidate, attack_advantage, case_fit
from segfed.engine import (
    LocalTrainer,
    Plan,
    PreparedCase,
    UNet,
    build_network,
    make_plan,
    prepare,
)
from segfed.privacy import clip
from segfed.sites import Site, load_site, load_task, select_labels

ROOT = Path(__file__).resolve().parents[1]
TASK = ROOT / "docs" / "examples" / "hippocampus" / "hippocampus.toml"
PLAN = {
    "spacing_mm": (2.0, 2.0, 2.0),
    "patch_voxels": (24, 32, 24),
    "features": (8, 16),
    "stem_stride": 1,
}
CPU = torch.device("cpu")
ROUNDS = 6
CLIP_NORM = 0.5

Cases = Mapping[str, tuple[PreparedCase, ...]]


def cases_of(sites: Sequence[Site], plan: Plan, split: Literal["train", "test"]) -> Cases:
    """Each site's cases of a split, preprocessed."""
    return {
        site.name: prepare(
            select_labels(site, split=split, arm="manual"),
            plan,
            site.folder / "cache",
        )
        for site in sites
    }


def federated(
    plan: Plan, cases: Cases, *, seed: int, steps: int, clip_norm: float | None
) -> tuple[UNet, float]:
    """A model of all sites, by FedAvg with weights by cases, and the median norm of its updates."""
    network = build_network(plan, seed=seed)
    trainers = {
        name: LocalTrainer(
            plan,
            found,
            network=build_network(plan, seed=seed),
            seed=seed + 1000 * number,
            total_steps=steps,
            device=CPU,
        )
        for number, (name, found) in enumerate(cases.items(), start=1)
    }
    total, norms = sum(map(len, cases.values())), []
    for _ in range(ROUNDS):
        base = {name: value.clone() for name, value in network.state_dict().items()}
        mean = {name: value.double() for name, value in base.items()}
        for site, trainer in trainers.items():
            trainer.load_weights(base)
            trainer.run(steps // ROUNDS)
            update = {n: (v - base[n]).numpy() for n, v in trainer.weights().items()}
            norms.append(float(np.sqrt(sum((array**2).sum() for array in update.values()))))
            if clip_norm is not None:
                update = clip(update, norm=clip_norm)
            for name, array in update.items():
                mean[name] += len(cases[site]) / total * torch.from_numpy(np.array(array)).double()
        network.load_state_dict({name: value.float() for name, value in mean.items()})
    return network, float(np.median(norms))


def local(plan: Plan, cases: Sequence[PreparedCase], *, seed: int, steps: int) -> UNet:
    """A model of one site."""
    network = build_network(plan, seed=seed)
    trainer = LocalTrainer(plan, cases, network=network, seed=seed, total_steps=steps, device=CPU)
    trainer.run(steps)
    return network


def run(sites: Sequence[Site], plan: Plan, *, seed: int, steps: int) -> dict[str, Any]:
    """All models of one seed, and how they fit every case."""
    train, test = (cases_of(sites, plan, split) for split in ("train", "test"))
    networks = {f"local {name}": local(plan, train[name], seed=seed, steps=steps) for name in train}
    networks["federated"], norm = federated(plan, train, seed=seed, steps=steps, clip_norm=None)
    networks["federated, clipped"], _ = federated(
        plan, train, seed=seed, steps=steps, clip_norm=CLIP_NORM * norm
    )
    networks["untrained"] = build_network(plan, seed=seed)
    return {
        "seed": seed,
        "steps": steps,
        "update_norm": norm,
        "fits": {
            name: [
                {
                    "site": site,
                    "case": case.case_id,
                    "is_member": is_member,
                    **vars(case_fit([network], plan, case, device=CPU)),
                }
                for cases, is_member in ((train, True), (test, False))
                for site in cases
                for case in cases[site]
            ]
            for name, network in networks.items()
        },
    }


def summarise(done: Sequence[Mapping[str, Any]]) -> None:
    """Print a row for each model and attack, one column a seed."""
    seeds = ", ".join(str(item["seed"]) for item in done)
    print(f"| Model | Attack by | Members, others | Dice | Advantage, seeds {seeds} | AUC |")
    print("|---|---|---|---|---|---|")
    for model in done[0]["fits"]:
        for attack in ("loss", "calibrated loss"):
            if attack == "calibrated loss" and model == "untrained":
                continue
            found = [_candidates(item["fits"], model, attack) for item in done]
            results = [attack_advantage(one, seed=0) for one in found]
            gains = "; ".join(
                f"{r.advantage:+.2f} ({r.advantage_low:+.2f}, {r.advantage_high:+.2f})"
                for r in results
            )
            aucs = "; ".join(f"{r.auc:.2f}" for r in results)
            counts = f"{results[0].n_members}, {results[0].n_others}"
            dice = [
                _mean_dice(item["fits"], model, is_member) for item in done for is_member in (1, 0)
            ]
            shown = f"{np.mean(dice[::2]):.3f}, {np.mean(dice[1::2]):.3f}"
            print(f"| {model} | {attack} | {counts} | {shown} | {gains} | {aucs} |")


def _of(fits: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    """The cases of a model's own sites."""
    site = model.removeprefix("local ") if model.startswith("local ") else None
    return [row for row in fits[model] if site is None or row["site"] == site]


def _mean_dice(fits: Mapping[str, Any], model: str, is_member: int) -> float:
    return float(np.mean([r["dice"] for r in _of(fits, model) if r["is_member"] == is_member]))


def _candidates(fits: Mapping[str, Any], model: str, attack: str) -> list[Candidate]:
    """Each case as a candidate; a hippocampus case is a patient."""
    losses = {
        name: {(row["site"], row["case"]): row["loss"] for row in rows}
        for name, rows in fits.items()
    }
    found = []
    for row in _of(fits, model):
        key = (row["site"], row["case"])
        others = [
            losses[name][key]
            for name in losses
            if name.startswith("local ") and name not in (model, f"local {row['site']}")
        ]
        usual = float(np.mean(others)) if attack == "calibrated loss" else 0.0
        found.append(Candidate(row["site"], usual - row["loss"], row["is_member"]))
    return found


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--sites", type=Path, nargs="+", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = arguments.results.read_text().splitlines() if arguments.results.exists() else []
    done = [json.loads(line) for line in lines]
    if arguments.summary:
        summarise([item for item in done if item["seed"] in arguments.seeds])
        return
    plan = make_plan(load_task(TASK), PLAN)
    sites = [load_site(folder) for folder in arguments.sites]
    for seed in arguments.seeds:
        if seed not in {item["seed"] for item in done}:
            with arguments.results.open("a") as handle:
                found = run(sites, plan, seed=seed, steps=arguments.steps)
                handle.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
