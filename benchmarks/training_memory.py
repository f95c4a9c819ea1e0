"""Memory and open files of a training over few and many cases, and where a step's time goes.

    python benchmarks/training_memory.py [--data FOLDER] [--cases 10 500] [--steps 30]

The cases are the hippocampus volumes of `training_speed.py`, repeated where more are asked for.
Each number of cases gets a process of its own. `anonymous` is what the process needs; `mapped` are
pages of the cache's files that lie in memory as long as nothing else wants it.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_speed import DATA, TASK, labelled_cases, trainer

from segfed.engine import make_plan, prepare, select_device
from segfed.sites import LabelledCase, load_task

STATUS = Path("/proc/self/status")


def memory_mb() -> tuple[float, float]:
    """Anonymous and mapped memory of this process, in MB."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    anonymous, mapped = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return anonymous, mapped


def train(labelled: Sequence[LabelledCase], cache: Path, steps: int, sender: Any) -> None:
    """Send memory before and after some steps, open files, and the share of loading."""
    plan, device = make_plan(load_task(TASK)), select_device("auto")
    cases = prepare(labelled, plan, cache)
    run = trainer(plan, cases, seed=0, steps=steps, device=device)
    run.run(1)
    before = memory_mb()
    loading, ended, compute = 0.0, time.perf_counter(), run._gradients.take

    def timed(images: torch.Tensor, labels: torch.Tensor) -> float:
        nonlocal loading
        loading += time.perf_counter() - ended
        return compute(images, labels)

    def end(*_: object) -> None:
        nonlocal ended
        ended = time.perf_counter()

    # What lies between the end of a step and the start of the next one's network.
    run._gradients.take = timed  # type: ignore[method-assign]
    run._optimizer.register_step_post_hook(end)
    ended = time.perf_counter()
    seconds = run.run(steps - 1).seconds
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    sender.send((before, memory_mb(), n_open, loading / seconds, seconds / (steps - 1)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 500])
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps")
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    plan = make_plan(load_task(TASK))
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
                target=train, args=(labelled, folder / "cache2", arguments.steps, sender)
            )
            process.start()
            sender.close()
            before, after, n_open, share, step_seconds = receiver.recv()
            process.join()
            (first, _), (last, mapped) = np.round(before), np.round(after)
            print(
                f"{n_cases:4d} cases: anonymous {first:.0f} MB after 1 step, {last:.0f} MB after "
                f"{arguments.steps}; mapped {mapped:.0f} MB; {n_open} open files; loading and "
                f"augmentation {100 * share:.1f} % of {step_seconds:.3f} s a step"
            )


if __name__ == "__main__":
    main()
