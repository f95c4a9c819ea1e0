"""The worker process: a real one, given small jobs."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from label_app.worker import Worker, make_way
from segfed.errors import CaseError, ServerError

BOUND_SECONDS = 60.0
KEPT: list[int] = []


@pytest.fixture
def worker():
    worker = Worker(timeout_seconds=BOUND_SECONDS)
    yield worker
    worker.end()


# Jobs, which the process finds here by their names.


def count_up() -> int:
    KEPT.append(0)
    return len(KEPT)


def die_unless(path: Path) -> int:
    """Die as if killed, but only once."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_memory() -> None:
    raise MemoryError("no room for 512 x 512 x 900")


def refuse() -> None:
    raise CaseError("Case 7 is not for you.")


def fail() -> None:
    raise ZeroDivisionError("secret path")


def hold_up(started: Path, released: Path) -> None:
    started.touch()
    wait_for(released.exists)


def work_until_hurried(started: Path) -> None:
    started.touch()
    wait_for(make_way)


def wait_for(condition) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_process_does_all_jobs_and_keeps_what_it_loaded(worker):
    pids = {worker.ask(os.getpid) for _ in range(3)}

    assert len(pids) == 1
    assert pids != {os.getpid()}
    assert [worker.ask(count_up), worker.ask(count_up)] == [1, 2]


def test_a_killed_process_is_replaced_and_the_job_tried_again(worker, tmp_path):
    before = worker.ask(os.getpid)
    os.kill(before, signal.SIGKILL)
    between = worker.ask(os.getpid)
    after = worker.ask(partial(die_unless, tmp_path / "died"))

    assert len({before, between, after}) == 3


def test_a_job_that_kills_every_process_is_given_up_in_words(worker):
    with pytest.raises(ServerError, match=r"ended twice.*exit code -9.*draw this one by hand"):
        worker.ask(die)
    assert worker.ask(count_up) == 1


def test_exhausted_memory_is_explained_and_freed(worker):
    worker.ask(count_up)
    before = worker.ask(os.getpid)

    with pytest.raises(ServerError, match=r"not enough memory.*freed.*ask again"):
        worker.ask(fill_memory)

    assert worker.ask(os.getpid) != before
    assert worker.ask(count_up) == 1, "what the process held is gone"


def test_our_errors_come_through_and_others_are_not_quoted(worker):
    with pytest.raises(CaseError, match="Case 7 is not for you"):
        worker.ask(refuse)
    with pytest.raises(ServerError, match="nobody foresaw") as told:
        worker.ask(fail)
    assert "secret path" not in str(told.value)


def test_a_job_that_hangs_is_given_up(tmp_path):
    worker = Worker(timeout_seconds=BOUND_SECONDS)
    before = worker.ask(os.getpid)
    worker.timeout_seconds = 0.2

    with pytest.raises(ServerError, match=r"not ready after 0\.2 s"):
        worker.ask(partial(hold_up, tmp_path / "started", tmp_path / "never"))

    worker.timeout_seconds = BOUND_SECONDS
    assert worker.ask(os.getpid) != before
    worker.end()


def test_a_job_of_low_priority_makes_way(worker, tmp_path):
    results = []
    background = threading.Thread(
        target=lambda: results.append(
            worker.ask_if_idle(partial(work_until_hurried, tmp_path / "started"))
        )
    )
    background.start()
    wait_for((tmp_path / "started").exists)

    assert worker.ask(os.getpid) > 0
    background.join(BOUND_SECONDS)
    assert results == [None]
    assert worker.ask_if_idle(count_up) == 1, "an idle worker does it"


def test_too_many_waiting_jobs_are_refused_at_once(tmp_path):
    worker = Worker(timeout_seconds=BOUND_SECONDS, most_waiting=1)
    first = partial(hold_up, tmp_path / "started", tmp_path / "released")
    threads = [threading.Thread(target=worker.ask, args=(job,)) for job in (first, os.getpid)]
    threads[0].start()
    wait_for((tmp_path / "started").exists)
    threads[1].start()
    wait_for(lambda: worker.n_waiting == 1)

    with pytest.raises(ServerError, match="1 requests that wait"):
        worker.ask(os.getpid)

    assert worker.ask_if_idle(os.getpid) is None
    (tmp_path / "released").touch()
    for thread in threads:
        thread.join(BOUND_SECONDS)
    worker.end()


def test_the_process_ends_with_its_parent_even_in_the_middle_of_a_job(tmp_path):
    started = tmp_path / "started"
    pid = os.fork()
    if pid == 0:
        try:
            job = partial(report_pid_and_hang, started)
            threading.Thread(target=Worker(timeout_seconds=BOUND_SECONDS).ask, args=(job,)).start()
            wait_for(started.exists)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)

    wait_for(lambda: not is_running(int(started.read_text())))


def report_pid_and_hang(path: Path) -> None:
    partial_path = path.with_suffix(".partial")
    partial_path.write_text(str(os.getpid()))
    partial_path.rename(path)
    time.sleep(BOUND_SECONDS)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that waits to be collected does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
