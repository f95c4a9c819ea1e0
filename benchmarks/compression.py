"""Dice and traffic of a federation whose updates travel in fewer bytes.

    python benchmarks/compression.py RESULTS.jsonl [--data FOLDER] [--seeds 0 1 2] [--rounds 20]
    python benchmarks/compression.py RESULTS.jsonl --summary

Four uneven sites of the Decathlon's hippocampus set train a small network on voxels of 2 mm with
the real agents, messages and server in one process; every fifth global model is scored on 40 cases
of no site, and the sites score none. All runs of a seed start from the same weights and draw the
same patches. One run is a line of RESULTS.jsonl; runs that are there already are not repeated, so
take another file for another number of rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from hippocampus import DATA, TASK, every_label, import_sites, mean_dice
from result_lines import append, read

from federation.simulation import run_federation
from segfed.agent import Agent
from segfed.engine import (
    PreparedCase,
    build_network,
    make_plan,
    prepare,
    read_weights,
    validation_dice,
    write_weights,
)
from segfed.protocol import Manifest, RoundRecord, RoundReply
from segfed.sites import Site, load_task

SITES = {"north": 40, "east": 20, "south": 14, "west": 10}
HELD_OUT, N_HELD_OUT = "held_out", 40
PLAN = {
    "spacing_mm": (2.0, 2.0, 2.0),
    "patch_voxels": (16, 24, 16),
    "features": (8, 16),
    "stem_stride": 1,
}
STEPS = 10
SCORED_EVERY = 5
CPU = torch.device("cpu")
VARIANTS = {
    "none": ("none", True),
    "fp16": ("fp16", True),
    "int8": ("int8", True),
    "int8, nothing fed back": ("int8", False),
    "int4": ("int4", True),
    "int4, nothing fed back": ("int4", False),
}
"""Compression, and whether sites add what rounding took to their next update."""


def run(
    variant: str,
    seed: int,
    *,
    sites: Sequence[Site],
    held_out: Sequence[PreparedCase],
    n_rounds: int,
) -> dict[str, Any]:
    """One federation."""
    compression, feeds_back = VARIANTS[variant]
    plan = make_plan(load_task(TASK), PLAN)
    manifest = Manifest.model_validate(
        {
            "study": variant,
            "task": plan.task,
            "plan": plan.model_dump(mode="json"),
            "arm": "manual",
            "train_split": "train",
            "seed": seed,
            "rounds": n_rounds,
            "steps_per_round": STEPS,
            "federation": {"compression": compression},
        }
    )
    network = build_network(plan, seed=seed)
    records: list[RoundRecord] = []
    scores: dict[int, dict[str, float]] = {}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)

        def score(record: RoundRecord) -> None:
            records.append(record)
            if record.round % SCORED_EVERY == 0:
                path = out / "run" / f"round_{record.round:03d}.safetensors"
                network.load_state_dict(read_weights(path))
                scores[record.round] = validation_dice(network, plan, held_out, device=CPU)

        write_weights(out / "start.safetensors", network.state_dict())
        forget = mock.patch("segfed.agent.agent.stored_residue", return_value=None)
        unscored = mock.patch.object(Agent, "_validate", return_value=RoundReply(b"", 0, {}))
        agents = {site.name: Agent(site, manifest, device=CPU) for site in sites}
        with unscored, contextlib.nullcontext() if feeds_back else forget:
            run_federation(
                manifest,
                agents=agents,
                initial_weights=out / "start.safetensors",
                out=out / "run",
                on_round=score,
            )
    return {
        "variant": variant,
        "seed": seed,
        "rounds": n_rounds,
        "dice": scores,
        "bytes_up": [site["bytes_up"] for record in records for site in record.sites.values()],
        "bytes_down": [site["bytes_down"] for record in records for site in record.sites.values()],
        "dropped": [record.dropped for record in records],
        "seconds": time.perf_counter() - started,
    }


def final_dice(item: dict[str, Any], *, rounds_before_end: int = 0) -> float:
    """Mean Dice of a run's last round, or of one before it."""
    return mean_dice(item["dice"][str(item["rounds"] - rounds_before_end)])


def summarise(done: Sequence[dict[str, Any]]) -> None:
    """Print Dice and bytes of each variant beside those of whole weights, as Markdown."""
    whole = {item["seed"]: item for item in done if item["variant"] == "none"}
    print(
        f"| compression | Dice of each seed | mean | {SCORED_EVERY} rounds before "
        "| less than whole weights (range) | bytes up |"
    )
    print("|---|---|---|---|---|---|")
    for variant in VARIANTS:
        found = [i for i in done if i["variant"] == variant and i["seed"] in whole]
        if not found:
            continue
        found.sort(key=lambda item: item["seed"])
        each = ", ".join(f"{final_dice(item):.4f}" for item in found)
        mean = statistics.mean(final_dice(item) for item in found)
        before = statistics.mean(final_dice(i, rounds_before_end=SCORED_EVERY) for i in found)
        costs = [final_dice(whole[item["seed"]]) - final_dice(item) for item in found]
        share = statistics.mean(
            sum(item["bytes_up"]) / sum(whole[item["seed"]]["bytes_up"]) for item in found
        )
        cost = f"{statistics.mean(costs):+.4f} ({min(costs):+.4f} to {max(costs):+.4f})"
        print(f"| {variant} | {each} | {mean:.4f} | {before:.4f} | {cost} | {share:.1%} |")


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--summary", action="store_true", help="print the table, run nothing")
    arguments = parser.parse_args()
    done = read(arguments.results)
    if arguments.summary:
        summarise(done)
        return
    known = {(item["variant"], item["seed"]) for item in done}
    with tempfile.TemporaryDirectory() as temporary:
        *sites, other = import_sites(
            arguments.data, Path(temporary) / "sites", sites={**SITES, HELD_OUT: N_HELD_OUT}
        )
        plan = make_plan(load_task(TASK), PLAN)
        held_out = prepare(every_label(other), plan, other.folder / "cache")
        for seed in arguments.seeds:
            for variant in arguments.variants:
                if (variant, seed) not in known:
                    item = run(
                        variant, seed, sites=sites, held_out=held_out, n_rounds=arguments.rounds
                    )
                    append(arguments.results, item)


if __name__ == "__main__":
    main()
