"""Memory and seconds of the server for one round, by the number of sites.

    python benchmarks/aggregation_memory.py [--megabytes 100] [--sites 2 16 64]

Each number of sites runs in a process of its own: real messages, checks, spool and arithmetic, and
sites that answer at once. The model's own needs are what stays in memory of a global model, the
request that carries it and one reply: they are measured before the round, and the figure is how far
the round's peak lies above them. Flower's SuperLink, which stores messages, is another process.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import Message

from federation.client_app import make_client_app
from federation.grid import InProcessGrid
from federation.messages import Weights, read_arrays, reply_message, write_arrays
from federation.server_optimizer import GlobalModel
from federation.strategy import CheckedRounds
from segfed.protocol import Manifest, RoundReply

LAYERS = 20
"""Arrays of equal size that the model is made of."""


class EchoGrid(InProcessGrid):
    """Nodes that send the model back at once, as a new message each."""

    def __init__(self, n_sites: int) -> None:
        super().__init__(make_client_app(_no_agent), dict.fromkeys(range(1, n_sites + 1)))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        messages = [self._waiting.pop(key) for key in message_ids if key in self._waiting]
        return [_echo(message) for message in messages]


def _no_agent(_context: object) -> None:
    """Echoes need none."""


def _echo(message: Message) -> Message:
    """The reply of a site that learned a little, or has no case to score."""
    reply = reply_message(
        RoundReply(b"", 1 if message.metadata.message_type == "train" else 0, {"steps": 1.0}),
        message,
    )
    if message.metadata.message_type == "train":
        arrays = read_arrays(message.content.array_records["arrays"])
        moved = {name: array + np.float32(1e-3) for name, array in arrays.items()}
        reply.content["arrays"] = write_arrays(moved)
    return reply


def peak_mb() -> float:
    """The largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n_sites: int, megabytes: int, aggregation: str) -> tuple[float, float, float]:
    """Peak before and after one round, in MB, and the round's seconds."""
    size = megabytes * 1_000_000 // 4 // LAYERS
    weights: Weights = {f"layer{n:02d}": np.zeros(size, np.float32) for n in range(LAYERS)}
    for array in weights.values():
        array += 1  # zeros take no memory until they are written
    manifest = Manifest.model_validate(
        {
            "study": "memory",
            "task": "none",
            "plan": {},
            "arm": "manual",
            "train_split": "train",
            "seed": 0,
            "rounds": 1,
            "steps_per_round": 1,
            "federation": {"aggregation": aggregation},
        }
    )
    request, reply = write_arrays(weights), write_arrays(weights)
    before = peak_mb()
    del request, reply
    names = {node: f"site{node:03d}" for node in range(1, n_sites + 1)}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        rounds = CheckedRounds(
            EchoGrid(n_sites), manifest, site_names=names, spool=Path(folder) / "spool"
        )
        started = time.perf_counter()
        _, record = rounds.run(1, GlobalModel(weights))
        seconds = time.perf_counter() - started
    if record.dropped:
        raise SystemExit(f"Sites were dropped, expected none: {record.dropped}. Is the disk full?")
    return before, peak_mb(), seconds


def main() -> None:
    """Print one line for each method and number of sites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100, help="size of the model")
    parser.add_argument("--sites", type=int, nargs="+", default=[2, 16, 64])
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("method        sites  model's needs MB  peak MB  above MB  seconds")
    for method, n_sites in itertools.product(("mean", "median", "trimmed_mean"), arguments.sites):
        with context.Pool(1) as pool:
            before, after, seconds = pool.apply(measure, (n_sites, arguments.megabytes, method))
        print(
            f"{method:<13} {n_sites:>5} {before:>17.0f} {after:>8.0f} {after - before:>9.0f} "
            f"{seconds:>8.1f}"
        )


if __name__ == "__main__":
    main()
