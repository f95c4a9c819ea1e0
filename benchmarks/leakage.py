"""Whom a model gives away that was trained on them: alone, in a federation, and protected.

    python benchmarks/leakage.py RESULTS.jsonl [--sites FOLDER...] [--seeds 0 1 2] [--steps 120]
    python benchmarks/leakage.py PATCHES.json --sites FOLDER... --reconstruct
    python benchmarks/leakage.py RESULTS.jsonl --summary

Real cases with a small plan: each site trains a model of its own, and all sites train one together
by FedAvg in as many steps: openly, with clipped updates, and by DP-SGD with the patient as unit.
Members are the training patients, others the test patients of the same sites. One seed is a line of
RESULTS.jsonl; models that it has already are not trained again. The sites are made by ``segfed site
import … --format msd``. With ``--reconstruct`` small patches are rebuilt from the untrained
network's updates instead, and the table is printed at once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from hippocampus import TASK
from result_lines import read

from segfed.attacks import (
    Candidate,
    InversionSettings,
    attack_advantage,
    case_fit,
    invert_updates,
    usual_exposures,
)
from segfed.engine import (
    LocalTrainer,
    Plan,
    PreparedCase,
    UNet,
    build_network,
    make_plan,
    prepare,
)
from segfed.engine.private_training import PatientNoise, private_steps
from segfed.files import write_text
from segfed.privacy import clip, noise_multiplier_for
from segfed.sites import Site, load_site, load_task, select_labels

PLAN = {
    "spacing_mm": (2.0, 2.0, 2.0),
    "patch_voxels": (24, 32, 24),
    "features": (8, 16),
    "stem_stride": 1,
}
CPU = torch.device("cpu")
ROUNDS = 6
CLIP_NORM = 0.5
"""Of updates, in units of their median norm."""

EPSILON, DELTA = 16.0, 1e-4
PATIENT_CLIP_NORM, SAMPLING_RATE = 0.3, 0.25

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
    plan: Plan,
    cases: Cases,
    *,
    seed: int,
    steps: int,
    clip_norm: float | None = None,
    noise: PatientNoise | None = None,
) -> tuple[UNet, float]:
    """A model of all sites, by FedAvg with weights by cases, and the median norm of its updates.

    With ``noise`` by DP-SGD; a hippocampus case is a patient.
    """
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
            if noise is None:
                trainer.run(steps // ROUNDS)
            else:
                patients = [(case,) for case in cases[site]]
                private_steps(trainer, patients, noise=noise, steps=steps // ROUNDS)
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


def run(
    sites: Sequence[Site], plan: Plan, *, seed: int, steps: int, known: Mapping[str, Any]
) -> dict[str, Any]:
    """How all models of one seed fit every case; those in ``known`` stay as they are."""
    train, test = (cases_of(sites, plan, split) for split in ("train", "test"))
    norm = known.get("update_norm")
    fits = dict(known.get("fits", {}))

    def keep(name: str, network: UNet) -> None:
        fits[name] = [
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

    if norm is None:
        network, norm = federated(plan, train, seed=seed, steps=steps)
        keep("federated", network)
    together = partial(federated, plan, train, seed=seed, steps=steps)
    noise = PatientNoise(
        clip_norm=PATIENT_CLIP_NORM,
        noise_multiplier=noise_multiplier_for(
            epsilon=EPSILON, delta=DELTA, sampling_rate=SAMPLING_RATE, steps=steps
        ),
        sampling_rate=SAMPLING_RATE,
    )
    makers: dict[str, Callable[[], UNet]] = {
        **{
            f"local {name}": partial(local, plan, train[name], seed=seed, steps=steps)
            for name in train
        },
        "federated, clipped": lambda: together(clip_norm=CLIP_NORM * norm)[0],
        f"federated, DP-SGD with epsilon {EPSILON:g}": lambda: together(noise=noise)[0],
        "untrained": partial(build_network, plan, seed=seed),
    }
    for name, make in makers.items():
        if name not in fits:
            keep(name, make())
    return {"seed": seed, "steps": steps, "update_norm": norm, "fits": fits}


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


def reconstruct(
    sites: Sequence[Site], plan: Plan, out: Path, *, repeats: int, iterations: int
) -> None:
    """Attack updates of the untrained network; writes and prints what they show."""
    cases = [case for found in cases_of(sites, plan, "train").values() for case in found]
    found = invert_updates(
        build_network(plan, seed=0),
        plan,
        cases,
        exposures=usual_exposures(plan, n_steps=15, n_sites=len(sites)),
        settings=InversionSettings(repeats=repeats, iterations=iterations),
    )
    out.write_text(json.dumps([vars(row) for row in found], indent=2) + "\n")
    print("| Update | True patch | Other patches | Difference | PSNR, dB |")
    print("|---|---|---|---|---|")
    for row in found:
        print(
            f"| {row.exposure} | {row.correlation:.2f} | {row.chance:.2f} | {row.advantage:+.2f} "
            f"({row.advantage_low:+.2f}, {row.advantage_high:+.2f}) | {row.psnr_db:.1f} "
            f"({row.chance_psnr_db:.1f}) |"
        )


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--sites", type=Path, nargs="+", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--reconstruct", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=80)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sites = [load_site(folder) for folder in arguments.sites]
    if arguments.reconstruct:
        plan = make_plan(load_task(TASK), {**PLAN, "patch_voxels": (16, 16, 16)})
        reconstruct(
            sites,
            plan,
            arguments.results,
            repeats=arguments.repeats,
            iterations=arguments.iterations,
        )
        return
    done = read(arguments.results)
    if arguments.summary:
        summarise([item for item in done if item["seed"] in arguments.seeds])
        return
    plan = make_plan(load_task(TASK), PLAN)
    by_seed = {item["seed"]: item for item in done}
    for seed in arguments.seeds:
        known = by_seed.get(seed, {})
        if known and known["steps"] != arguments.steps:
            parser.error(
                f"{arguments.results} has seed {seed} with {known['steps']} steps, expected "
                f"{arguments.steps}: give these steps, or another file"
            )
        by_seed[seed] = run(sites, plan, seed=seed, steps=arguments.steps, known=known)
        write_text(arguments.results, "".join(json.dumps(i) + "\n" for i in by_seed.values()))


if __name__ == "__main__":
    main()
