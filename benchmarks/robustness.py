"""What planted hostile sites do to a federation, and how many of them are noticed.

    python benchmarks/robustness.py RESULTS.jsonl [--seeds 0 1 2] [--layouts 1/4] [--rounds 6]
    python benchmarks/robustness.py RESULTS.jsonl --summary

Small networks train for real on synthetic volumes, each site with a scanner of its own, and the
updates go through the server's own spool, scores, flags and aggregation. Flower's messages, which
carry updates unchanged, are left out. One run is a line of RESULTS.jsonl; runs that are there
already are not repeated, so take another file for another number of rounds.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from result_lines import append, read

from federation.aggregation import aggregate
from federation.messages import Weights
from federation.similarity import compare, outlier_scores, suspects
from federation.spool import Spool
from segfed.engine.loss import segmentation_loss
from segfed.engine.network import UNet
from segfed.rules import FederationRules

SIZE, N_CASES, N_TEST, STEPS = 16, 8, 6, 10
FEATURES, LEARNING_RATE = (8, 16), 5e-3
STRUCTURES = ((1, 2), (2,))
"""Organ with lesion, and lesion: overlapping, as in the project's own tasks."""

ATTACKS = (
    "sign_flip",
    "scaled",
    "label_swap",
    "noise",
    "backdoor",
    "free_rider",
    "free_rider_noise",
    "duplicate",
)
DEFENCES: dict[str, dict[str, Any]] = {
    "mean": {},
    "median": {"aggregation": "median"},
    "trimmed_mean": {"aggregation": "trimmed_mean", "trimmed_fraction": 0.34},
    "clipped": {"clip_norm_ratio": 1.0},
    "clipped, suspects dropped": {"clip_norm_ratio": 1.0, "suspects": "drop"},
    "multi_krum": {"aggregation": "multi_krum"},
}


@dataclass
class Cases:
    """Images (N, 1, I, J, K) and labels (N, I, J, K)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def draw_cases(n_cases: int, *, scanner: int, rng: np.random.Generator) -> Cases:
    """Ellipsoids with a brighter lesion, as one scanner shows them.

    Args:
        n_cases: How many.
        scanner: Decides contrast, offset and noise, the same for every seed.
        rng: Draws places, sizes and noise.
    """
    machine = np.random.default_rng(1000 + scanner)
    contrast, offset = machine.uniform(0.7, 1.3), machine.uniform(-0.2, 0.2)
    noise = machine.uniform(0.1, 0.3)
    grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"), axis=-1)
    images, labels = [], []
    for _ in range(n_cases):
        centre, radii = rng.uniform(6.5, 9, size=3), rng.uniform(4.5, 6, size=3)
        organ = (((grid - centre) / radii) ** 2).sum(axis=-1) <= 1
        middle = centre + rng.uniform(-1.5, 1.5, size=3)
        lesion = organ & (((grid - middle) ** 2).sum(axis=-1) <= rng.uniform(2, 3) ** 2)
        label = organ.astype(np.int64) + lesion
        image = offset + contrast * np.array([0.0, 1.0, 2.0])[label]
        images.append((image + noise * rng.normal(size=label.shape)).astype(np.float32)[None])
        labels.append(label)
    return Cases(np.stack(images), np.stack(labels))


def with_patch(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same images with the back door's dark cube in a corner."""
    changed = images.copy()
    changed[..., :3, :3, :3] = -3.0
    return changed


def poisoned(cases: Cases, attack: str) -> Cases:
    """What a hostile site trains on."""
    if attack == "label_swap":
        return Cases(cases.images, np.array([0, 2, 1])[cases.labels])
    if attack == "backdoor":
        erased = np.minimum(cases.labels, 1)
        return Cases(
            np.concatenate([cases.images, with_patch(cases.images)]),
            np.concatenate([cases.labels, erased]),
        )
    return cases


class LocalSite:
    """One site's cases, network and optimizer, whose memory it keeps between rounds."""

    def __init__(self, cases: Cases, *, seed: int) -> None:
        self.cases = cases
        self.network = UNet(in_channels=1, out_channels=3, features=FEATURES)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE)
        self.rng = np.random.default_rng(seed)

    def train(self, weights: Weights) -> Weights:
        """The weights after a round's local steps."""
        self.network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
        self.network.train()
        for _ in range(STEPS):
            chosen = self.rng.choice(len(self.cases.images), size=2, replace=False)
            images = torch.from_numpy(self.cases.images[chosen])
            labels = torch.from_numpy(self.cases.labels[chosen])
            loss = segmentation_loss(self.network(images), labels, structures=STRUCTURES)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return {k: v.numpy().copy() for k, v in self.network.state_dict().items()}


def sent(
    attack: str, trained: Weights, *, model: Weights, victim: Weights, rng: np.random.Generator
) -> Weights:
    """What a hostile site sends in place of what it trained; ``victim`` is an honest site's."""
    flat = np.concatenate([(victim[name] - model[name]).ravel() for name in model])
    noise_std = {"noise": float(flat.std()), "free_rider_noise": 0.05 * float(flat.std())}
    factor = {"sign_flip": -1.0, "scaled": 5.0, "free_rider": 0.0}
    if attack == "duplicate":
        return victim
    if attack in noise_std:
        std = noise_std[attack]
        return {
            name: (array + std * rng.normal(size=array.shape)).astype(array.dtype)
            for name, array in model.items()
        }
    length = np.float32(factor.get(attack, 1.0))
    return {name: model[name] + length * (trained[name] - model[name]) for name in model}


def run(attack: str, layout: str, seed: int, defence: str, *, n_rounds: int) -> dict[str, Any]:
    """One federation; with attack ``absent`` the hostile sites are not there at all."""
    n_hostile, n_sites = map(int, layout.split("/"))
    n_honest = n_sites - n_hostile
    names = [f"site{index}" for index in range(n_honest if attack == "absent" else n_sites)]
    hostile = names[n_honest:] if attack != "none" else []
    fields = dict(DEFENCES[defence])
    if defence == "multi_krum":
        fields |= {"hostile_sites": n_hostile, "minimum_sites": n_sites}
    rules = FederationRules(**fields)  # refuses Krum where n < 2 f + 3
    torch.manual_seed(seed)
    sites = {}
    for index, name in enumerate(names):
        cases = draw_cases(N_CASES, scanner=index, rng=np.random.default_rng([seed, index]))
        cases = poisoned(cases, attack) if name in hostile else cases
        sites[name] = LocalSite(cases, seed=100 * seed + index)
    network = UNet(in_channels=1, out_channels=3, features=FEATURES)
    model: Weights = {name: value.numpy() for name, value in network.state_dict().items()}
    model = dict(sorted(model.items()))
    rng = np.random.default_rng([seed, 99])
    rounds = []
    for _ in range(n_rounds):
        updates = {name: site.train(model) for name, site in sites.items()}
        for name in hostile:
            updates[name] = sent(
                attack, updates[name], model=model, victim=updates["site0"], rng=rng
            )
        with tempfile.TemporaryDirectory() as folder:
            spool = Spool(Path(folder) / "spool", model=model)
            for name, weights in updates.items():
                spool.add(name, weights)
            comparison = compare(spool, model=model, sites=updates)
            flagged = suspects(
                comparison, steps=dict.fromkeys(updates, float(STEPS)), steps_weigh=False
            )
            rounds.append({"flagged": flagged, "scores": outlier_scores(comparison)})
            kept = set(updates) - (flagged.keys() if rules.suspects == "drop" else set())
            model = aggregate(
                spool,
                model=model,
                counts=dict.fromkeys(kept, N_CASES),
                rules=rules,
                comparison=comparison.of(kept),
            )
    return {
        "attack": attack,
        "layout": layout,
        "seed": seed,
        "defence": defence,
        "hostile": hostile,
        "rounds": rounds,
        **score(network, model, n_scanners=n_honest, seed=seed),
    }


def score(network: UNet, model: Weights, *, n_scanners: int, seed: int) -> dict[str, float | None]:
    """Mean Dice over the honest sites' scanners, and the share of lesions that the patch erases.

    None where the network finds no lesion at all.
    """
    network.load_state_dict({name: torch.from_numpy(value) for name, value in model.items()})
    dice, found, found_with_patch = [], 0, 0
    for scanner in range(n_scanners):
        cases = draw_cases(N_TEST, scanner=scanner, rng=np.random.default_rng([seed, scanner, 7]))
        with torch.inference_mode():
            predicted = network(torch.from_numpy(cases.images)).argmax(1).numpy()
            patched = network(torch.from_numpy(with_patch(cases.images))).argmax(1).numpy()
        found += int((predicted == 2).sum())
        found_with_patch += int((patched == 2).sum())
        for values, case in itertools.product(STRUCTURES, range(N_TEST)):
            reference = np.isin(cases.labels[case], values)
            mask = np.isin(predicted[case], values)
            dice.append(2 * (reference & mask).sum() / (reference.sum() + mask.sum()))
    erased = 1 - found_with_patch / found if found else None
    return {"dice": float(np.mean(dice)), "erased": erased}


def runs(
    seeds: list[int], layouts: list[str], defences: list[str]
) -> Iterator[tuple[str, str, int, str]]:
    """Everything to be run: attack, layout, seed, defence."""
    for seed, layout in itertools.product(seeds, layouts):
        n_hostile, n_sites = map(int, layout.split("/"))
        yield "absent", layout, seed, "mean"
        for attack, defence in itertools.product(("none", *ATTACKS), defences):
            if defence != "multi_krum" or n_sites >= 2 * n_hostile + 3:
                yield attack, layout, seed, defence


def summarise(done: list[dict[str, Any]]) -> None:
    """Print detection, false alarms and Dice, as Markdown."""
    seeds = sorted({item["seed"] for item in done})
    print(f"Seeds {', '.join(map(str, seeds))}\n")
    print("| Hostile | Attack | Site noticed | Rounds flagged | Honest rounds flagged |")
    print("|---|---|---|---|---|")
    for layout, attack in itertools.product(
        sorted({item["layout"] for item in done}), ("none", *ATTACKS)
    ):
        found = [i for i in done if (i["layout"], i["attack"]) == (layout, attack)]
        found = [i for i in found if i["defence"] == "mean"]
        if found:
            print(f"| {layout} | {attack} | {' | '.join(_rates(found))} |")
    print("\n| Hostile | Attack | " + " | ".join(DEFENCES) + " |")
    print("|---|---|" + "---|" * len(DEFENCES))
    for layout, attack in itertools.product(
        sorted({item["layout"] for item in done}), ("none", *ATTACKS)
    ):
        cells = [_dice_cell(done, layout, attack, defence) for defence in DEFENCES]
        print(f"| {layout} | {attack} | {' | '.join(cells)} |")


def _rates(found: list[dict[str, Any]]) -> list[str]:
    """Hostile sites flagged in most rounds, hostile and honest (site, round) pairs flagged."""
    hostile, honest, noticed = [], [], []
    for item in found:
        for name in item["rounds"][0]["scores"]:
            flags = [name in one["flagged"] for one in item["rounds"]]
            (hostile if name in item["hostile"] else honest).extend(flags)
            if name in item["hostile"]:
                noticed.append(sum(flags) > len(flags) / 2)
    return [
        f"{sum(flags)} of {len(flags)}" if flags else "" for flags in (noticed, hostile, honest)
    ]


def _dice_cell(done: list[dict[str, Any]], layout: str, attack: str, defence: str) -> str:
    """Mean Dice over the seeds, and its difference to the runs without the hostile sites."""

    def by_seed(attack: str, defence: str) -> dict[int, dict[str, Any]]:
        key = (layout, attack, defence)
        return {i["seed"]: i for i in done if (i["layout"], i["attack"], i["defence"]) == key}

    found, absent = by_seed(attack, defence), by_seed("absent", "mean")
    if not found:
        return ""
    mean = np.mean([item["dice"] for item in found.values()])
    gap = np.mean([item["dice"] - absent[seed]["dice"] for seed, item in found.items()])
    erased = [item["erased"] for item in found.values() if item["erased"] is not None]
    suffix = f", {np.mean(erased):.0%} erased" if attack == "backdoor" and erased else ""
    return f"{mean:.3f} ({gap:+.3f}{suffix})"


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--layouts", nargs="+", default=["1/4", "2/6"])
    parser.add_argument("--defences", nargs="+", default=list(DEFENCES), choices=list(DEFENCES))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = read(arguments.results)
    if arguments.summary:
        summarise([item for item in done if item["seed"] in arguments.seeds])
        return
    known = {(item["attack"], item["layout"], item["seed"], item["defence"]) for item in done}
    for key in runs(arguments.seeds, arguments.layouts, arguments.defences):
        if key not in known:
            append(arguments.results, run(*key, n_rounds=arguments.rounds))


if __name__ == "__main__":
    main()
