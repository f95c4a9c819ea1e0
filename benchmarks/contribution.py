"""What each of three sites adds to a federation, measured in two ways.

    python benchmarks/contribution.py RESULTS.jsonl [--seeds 0 1 2] [--rounds 10]
    python benchmarks/contribution.py RESULTS.jsonl --summary

Sites, volumes and training are those of ``robustness.py``: small networks that train for real on
synthetic volumes. The last site is an ordinary one, or has few cases, swapped labels, nothing but
the global model, or the update of the first site. Every group of sites is trained anew
("retrained"), and one federation of all sites is taken apart round by round ("rounds"). One
scenario and seed is a line of RESULTS.jsonl; those that are there are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result_lines import append, read
from robustness import (
    FEATURES,
    N_CASES,
    N_TEST,
    STRUCTURES,
    LocalSite,
    draw_cases,
    poisoned,
    sent,
)

from federation.coalitions import coalition_models
from federation.messages import Weights
from segfed.engine.network import UNet
from segfed.evaluation.contribution import all_groups, contributions, shapley_values
from segfed.rules import PrivacyRules

SITES = tuple(f"site{index}" for index in range(3))
ODD = SITES[-1]
SCENARIOS = ("ordinary", "few_cases", "label_swap", "free_rider", "duplicate")
FEW = 2

Scores = dict[str, dict[str, float]]


def train(
    scenario: str, group: Collection[str], seed: int, *, n_rounds: int, apart: bool = False
) -> tuple[Weights, list[dict[frozenset[str], float]]]:
    """The model of some sites, and with ``apart`` what each group's updates add in each round."""
    torch.manual_seed(seed)
    sites = {}
    for index, name in enumerate(SITES):
        cases = draw_cases(N_CASES, scanner=index, rng=np.random.default_rng([seed, index]))
        if name == ODD and scenario == "few_cases":
            cases.images, cases.labels = cases.images[:FEW], cases.labels[:FEW]
        if name == ODD:
            cases = poisoned(cases, scenario)
        sites[name] = LocalSite(cases, seed=100 * seed + index)
    network = UNet(in_channels=1, out_channels=3, features=FEATURES)
    model: Weights = {name: value.numpy() for name, value in network.state_dict().items()}
    model = dict(sorted(model.items()))
    rng = np.random.default_rng([seed, 99])
    rounds = []
    for _ in range(n_rounds):
        updates = {name: sites[name].train(model) for name in sorted(group)}
        if ODD in updates and scenario in ("free_rider", "duplicate"):
            # Without the first site there is nothing that could be copied from it.
            victim = updates.get(SITES[0], model)
            updates[ODD] = sent(scenario, updates[ODD], model=model, victim=victim, rng=rng)
        counts = {name: len(sites[name].cases.images) for name in updates}
        models = dict(coalition_models(updates, model=model, counts=counts, privacy=PrivacyRules()))
        if apart:
            rounds.append({one: mean_dice(network, models[one], seed) for one in models})
        model = models[frozenset(updates)]
    return model, rounds


def held_out(network: UNet, model: Weights, seed: int) -> Scores:
    """Dice of each held-out case of each site, the mean over structures."""
    network.load_state_dict({name: torch.from_numpy(value) for name, value in model.items()})
    found: Scores = {}
    for scanner, site in enumerate(SITES):
        cases = draw_cases(N_TEST, scanner=scanner, rng=np.random.default_rng([seed, scanner, 7]))
        with torch.inference_mode():
            predicted = network(torch.from_numpy(cases.images)).argmax(1).numpy()
        rows = defaultdict(list)
        for values, case in itertools.product(STRUCTURES, range(N_TEST)):
            reference = np.isin(cases.labels[case], values)
            mask = np.isin(predicted[case], values)
            dice = 2 * (reference & mask).sum() / (reference.sum() + mask.sum())
            rows[str(case)].append(float(dice))
        found[site] = {case: float(np.mean(dice)) for case, dice in rows.items()}
    return found


def mean_dice(network: UNet, model: Weights, seed: int) -> float:
    """Mean over sites and cases."""
    scores = held_out(network, model, seed)
    return float(np.mean([value for site in scores.values() for value in site.values()]))


def run(scenario: str, seed: int, *, n_rounds: int) -> dict[str, Any]:
    """Every group of sites trained, and the federation of all taken apart."""
    network = UNet(in_channels=1, out_channels=3, features=FEATURES)
    scores = {}
    for group in all_groups(SITES):
        model, rounds = train(
            scenario, group, seed, n_rounds=n_rounds if group else 0, apart=len(group) == len(SITES)
        )
        scores["+".join(sorted(group))] = held_out(network, model, seed)
    by_round = [shapley_values(values) for values in rounds]
    return {
        "scenario": scenario,
        "seed": seed,
        "retrained": scores,
        "rounds": {site: sum(values[site] for values in by_round) for site in SITES},
    }


def summarise(done: list[dict[str, Any]]) -> None:
    """Print the table: the odd site of each scenario, and the mean of the ordinary ones."""
    print("| Last site | Site | Own cases lose | Other sites lose | Shapley | Shapley, by rounds |")
    print("|---|---|---|---|---|---|")
    for scenario in SCENARIOS:
        items = [item for item in done if item["scenario"] == scenario]
        if not items:
            continue
        runs = [
            {frozenset(filter(None, name.split("+"))): s for name, s in item["retrained"].items()}
            for item in items
        ]
        found = contributions(runs, seed=0)
        for site in SITES:
            one = found[site]
            cells = [f"{s.mean:+.3f} ({s.low:+.3f}, {s.high:+.3f})" for s in vars(one).values()]
            rounds = np.array([item["rounds"][site] for item in items])
            cells.append(f"{rounds.mean():+.3f} ({rounds.min():+.3f} to {rounds.max():+.3f})")
            print(f"| {scenario} ({len(items)} seeds) | {site} | {' | '.join(cells)} |")


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = read(arguments.results)
    if arguments.summary:
        summarise([item for item in done if item["seed"] in arguments.seeds])
        return
    known = {(item["scenario"], item["seed"]) for item in done}
    for seed, scenario in itertools.product(arguments.seeds, SCENARIOS):
        if (scenario, seed) not in known:
            append(arguments.results, run(scenario, seed, n_rounds=arguments.rounds))


if __name__ == "__main__":
    main()
