"""Several models at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from segfed.errors import TrainingError
from segfed.study.events import CaseScored, ignore_event
from segfed.study.models import ModelId
from segfed.study.parallel import default_workers, for_each, threads_per_worker
from segfed.study.run import StudyRun

SECONDS = 60


def make_run(*, workers=2, on_event=print):
    return StudyRun(
        settings=None,
        data=None,
        plan=None,
        profile=None,
        out=Path(),
        versions={},
        device=torch.device("cpu"),
        workers=workers,
        launch_federation=None,
        on_event=on_event,
    )


def event():
    return CaseScored(ModelId("local", "manual", 0, "a"), 1, 1)


def test_results_come_in_the_order_of_the_items_whoever_ends_first():
    second_done = threading.Event()

    def work(_run, item):
        if item == 1:
            assert second_done.wait(SECONDS)
        if item == 2:
            second_done.set()
        return item * 10

    assert for_each(make_run(), work, [1, 2, 3]) == [10, 20, 30]


def test_the_listener_is_called_by_one_thread_at_a_time():
    inside, most = [], []

    def listen(item):
        inside.append(item)
        most.append(len(inside))
        inside.pop()

    def work(run, _item):
        for _ in range(200):
            run.on_event(event())

    for_each(make_run(workers=4, on_event=listen), work, range(4))

    assert len(most) == 800
    assert max(most) == 1


def test_an_error_stops_the_others_at_their_next_event_and_starts_no_more():
    failing, begun = threading.Event(), []

    def work(run, item):
        begun.append(item)
        if item == "fails":
            failing.set()
            raise TrainingError("the loss is NaN")
        assert failing.wait(SECONDS)
        while True:  # ends because the listener raises
            run.on_event(event())

    with pytest.raises(TrainingError, match="NaN"):
        for_each(make_run(on_event=ignore_event), work, ["runs", "fails", "waits", "waits too"])

    assert "waits too" not in begun


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr("segfed.study.parallel.available_cores", lambda: 6)

    assert default_workers(torch.device("cpu")) == 4
    assert default_workers(torch.device("cuda")) == 1
    assert [threads_per_worker(workers) for workers in (1, 2, 4, 8)] == [6, 3, 1, 1]
