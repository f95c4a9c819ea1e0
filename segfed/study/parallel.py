"""Several trainings or scorings at once, on as many threads as pay."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TypeVar

import torch

from segfed.study.events import StudyEvent
from segfed.study.run import StudyRun

_MOST_WORKERS = 4
"""Each worker holds a network and its gradients in memory."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers(device: torch.device) -> int:
    """How many models to work on at once: one on a GPU, which one model can fill.

    On a CPU small networks leave most of a second thread idle, so that two models on a thread each
    take far less time than one after the other on two threads.
    """
    return min(available_cores(), _MOST_WORKERS) if device.type == "cpu" else 1


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_worker(workers: int) -> int:
    """Threads of one of several workers, which share the cores."""
    return max(1, available_cores() // workers)


def for_each(
    run: StudyRun, work: Callable[[StudyRun, Item], Result], items: Sequence[Item]
) -> list[Result]:
    """What the work makes of each item, in the items' order, ``run.workers`` of them at a time.

    When one fails, or the caller is interrupted, the others stop at their next event and what has
    not begun never does; the first error is raised.

    Args:
        run: The study. The work gets one whose listener is called by one thread at a time.
        work: Called in a thread of its own.
        items: What to work on.
    """
    stop, turn = threading.Event(), threading.Lock()

    def on_event(event: StudyEvent) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        with turn:
            run.on_event(event)

    watched = replace(run, on_event=on_event)
    with ThreadPoolExecutor(
        run.workers, initializer=torch.set_num_threads, initargs=(threads_per_worker(run.workers),)
    ) as pool:
        futures = [pool.submit(work, watched, item) for item in items]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
