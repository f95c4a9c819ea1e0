"""Programs that are kept running."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
import sys

import psutil
import pytest

from segfed.cli import supervisor as module
from segfed.cli.supervisor import Program, Supervisor, until_told_to_stop
from tests.socket_samples import until

LASTING = "import time; print('here', flush=True); time.sleep(300)"


@pytest.fixture
def story():
    """What the supervisor says."""
    return []


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Restart at once."""
    monkeypatch.setattr(module, "_pauses", lambda: itertools.repeat(0.0))


def program(folder, code, *, name="node"):
    """A Python program."""
    return Program(
        name, [sys.executable, "-c", code], dict(os.environ), folder / "l" / f"{name}.log"
    )


def output(of):
    """What a program said so far."""
    return of.log.read_text() if of.log.exists() else ""


def test_a_program_that_ends_is_started_again_and_its_last_words_are_told(tmp_path, story):
    dying = program(tmp_path, "print('\\x1b[91mno such luck\\x1b[0m'); raise SystemExit(3)")

    with Supervisor([dying], say=story.append) as supervisor:
        until(lambda: supervisor.look() or output(dying).count("luck") >= 2)

    assert "node ended with exit code 3 (no such luck); it starts again in 0 s." in story


HELPED = """
import subprocess, sys, time
sleeping = [sys.executable, "-c", "import time; time.sleep(300)", "the-helper"]
helper = subprocess.Popen(sleeping)
print(helper.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_program_whose_helper_ended_is_started_again(tmp_path, story):
    helped = dataclasses.replace(program(tmp_path, HELPED), helper="the-helper")

    with Supervisor([helped], say=story.append) as supervisor:
        until(lambda: supervisor.look() or output(helped))
        supervisor.look()  # sees it
        os.kill(int(output(helped)), signal.SIGKILL)
        until(lambda: supervisor.look() or len(output(helped).split()) == 2)

    assert "it starts again in 0 s." in story[1]


def test_a_program_may_have_a_better_line_than_its_last(tmp_path, story):
    code = "print('details = no such key'); print('RuntimeError'); raise SystemExit(1)"
    dying = dataclasses.replace(program(tmp_path, code), reason="details =")

    with Supervisor([dying], say=story.append) as supervisor:
        until(lambda: supervisor.look() or output(dying).count("details") >= 2)

    assert "node ended with exit code 1 (details = no such key); it starts again in 0 s." in story


def test_a_program_that_says_that_it_no_longer_works_is_started_again(tmp_path, story):
    code = "import sys, time; print('heart'); sys.stdout.flush(); time.sleep(0.4); "
    code += "print('beat stops'); print('details = full', flush=True); time.sleep(300)"
    ailing = dataclasses.replace(program(tmp_path, code), reason="details =", ill="beat stops")

    with Supervisor([ailing], say=story.append) as supervisor:
        until(lambda: supervisor.look() or output(ailing).count("heart") >= 2)

    ended = "node ended with exit code -9 (details = full); it starts again in 0 s."
    assert [text for text in story if "ended" in text] == [ended]


def test_an_earlier_run_does_not_speak_for_a_later_one(tmp_path, story):
    silent = program(tmp_path, "raise SystemExit(1)")
    silent.log.parent.mkdir()
    silent.log.write_text("long ago\n")

    with Supervisor([silent], say=story.append) as supervisor:
        until(lambda: supervisor.look() or len(story) >= 2)

    assert "(it said nothing)" in story[1]


def test_what_was_started_is_stopped_in_reverse_order(tmp_path, story):
    programs = [program(tmp_path, LASTING, name=name) for name in ("agent", "node")]

    with Supervisor(programs, say=story.append):
        until(lambda: all("here" in output(one) for one in programs))

    assert [line for line in story if "stopped" in line] == [
        "node has stopped.",
        "agent has stopped.",
    ]
    assert not living(LASTING)


def test_what_a_killed_program_started_does_not_stay(tmp_path, story):
    child = "import time; time.sleep(299.5)"
    parent = program(
        tmp_path,
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]);"
        "print('here', flush=True); p.wait()",
    )

    with Supervisor([parent], say=story.append) as supervisor:
        until(lambda: "here" in output(parent))
        (before,) = living(child)
        for process in living("print('here', flush=True); p.wait()"):
            process.kill()
        until(lambda: supervisor.look() or output(parent).count("here") == 2)
        until(lambda: not before.is_running() or before.status() == psutil.STATUS_ZOMBIE)

    until(lambda: not living(child))


def test_a_program_that_ignores_the_request_to_stop_is_killed(tmp_path, story, monkeypatch):
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.1)
    deaf = program(
        tmp_path, f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {LASTING}"
    )

    with Supervisor([deaf], say=story.append):
        until(lambda: "here" in output(deaf))

    assert not living(LASTING)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_ends_the_block_quietly(number):
    with until_told_to_stop():
        os.kill(os.getpid(), number)
        signal.pause()


def test_what_is_due_each_day_is_done_at_once_and_every_day(tmp_path, story, monkeypatch):
    monkeypatch.setattr(module, "_DAY_SECONDS", 0.05)
    days = []

    def count():
        days.append(len(days))
        if len(days) == 3:
            raise KeyboardInterrupt

    with (
        until_told_to_stop(),
        Supervisor([program(tmp_path, LASTING)], say=story.append) as supervisor,
    ):
        supervisor.run(each_day=count)

    assert days == [0, 1, 2]


def test_pauses_grow_to_a_limit(monkeypatch):
    monkeypatch.undo()

    assert list(itertools.islice(module._pauses(), 8)) == [1, 2, 4, 8, 16, 32, 60, 60]


def living(code):
    """Processes of this test whose command line ends with some code."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[-1].endswith(code):
                found.append(process)
    return found
