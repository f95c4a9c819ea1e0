"""Memory and open files of a training over few and many cases, and where a step's time goes.

    python benchmarks/training_memory.py [--data FOLDER] [--cases 10 500] [--steps 30] [--plan JSON]

The cases are the hippocampus volumes of `training_speed.py`, repeated where more are asked for.
Each number of cases gets a process of its own. Shares are of the seconds of the processor, and mean
something with OMP_NUM_THREADS=1 alone. `anonymous` is what the process needs; `mapped` are
pages of the cache's files that lie in memory as long as nothing else wants it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from hippocampus import DATA, TASK, labelled_cases
from training_speed import trainer

from segfed.engine import Plan, make_plan, prepare, select_device
from segfed.engine.batches import training_batch
from segfed.sites import LabelledCase, load_task

STATUS = Path("/proc/self/status")


def memory_mb() -> tuple[float, float]:
    """Anonymous and mapped memory of this process, in MB."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    anonymous, mapped = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return anonymous, mapped


def train(
    plan: Plan, labelled: Sequence[LabelledCase], cache: Path, steps: int, sender: Any
) -> None:
    """Send memory before and after some steps, open files, and the share of loading."""
    device = select_device("auto")
    cases = prepare(labelled, plan, cache)
    run = trainer(plan, cases, seed=0, steps=steps, device=device)
    run.run(1)
    before = memory_mb()
    spent = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose seconds of the processor are added up."""

        def call(*arguments: Any, **named: Any) -> Any:
            started = time.thread_time()
            result = function(*arguments, **named)
            spent[0] += time.thread_time() - started
            return result

        return call

    # Patches are read by a thread of their own, and augmented by the one that computes.
    run._draw = timed(run._draw)  # type: ignore[method-assign]
    started = time.process_time()
    with patch("segfed.engine.training.training_batch", timed(training_batch)):
        run.run(steps - 1)
    seconds = time.process_time() - started
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    sender.send((before, memory_mb(), n_open, spent[0] / seconds, seconds / (steps - 1)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 500])
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps")
    parser.add_argument("--plan", type=json.loads, default={}, help="settings to try, as JSON")
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    plan = make_plan(load_task(TASK), arguments.plan)
    print(
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads; UNet {plan.features}, "
        f"stem {plan.stem_stride}, batch {plan.batch_size}, {arguments.steps} steps"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        every = labelled_cases(arguments.data, folder / "sites")
        for workers in (1, 2):
            started = time.perf_counter()
            prepare(every, plan, folder / f"cache{workers}", workers=workers)
            seconds = time.perf_counter() - started
            print(f"preprocessing of {len(every)} cases by {workers} at once: {seconds:.1f} s")
        for n_cases in arguments.cases:
            labelled = list(itertools.islice(itertools.cycle(every), n_cases))
            receiver, sender = spawn.Pipe(duplex=False)
            process = spawn.Process(
                target=train, args=(plan, labelled, folder / "cache2", arguments.steps, sender)
            )
            process.start()
            sender.close()
            before, after, n_open, share, step_seconds = receiver.recv()
            process.join()
            (first, _), (last, mapped) = np.round(before), np.round(after)
            print(
                f"{n_cases:4d} cases: anonymous {first:.0f} MB after 1 step, {last:.0f} MB after "
                f"{arguments.steps}; mapped {mapped:.0f} MB; {n_open} open files; loading and "
                f"augmentation {100 * share:.1f} % of {step_seconds:.3f} s of the processor a step"
            )


if __name__ == "__main__":
    main()
