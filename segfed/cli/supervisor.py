"""Programs that are started again when they end, and that stop with who started them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segfed.cli.processes import die_with_parent

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
# A program that ran so long had started well: what ended it is new.
_WELL_SECONDS = 60.0
_LOOK_SECONDS = 0.25
_GRACE_SECONDS = 15.0


@dataclass(frozen=True)
class Program:
    """What to run, and where its output goes."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path


@dataclass
class _Running:
    """A program's process, or when the next one is due."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    pauses: Iterator[float] = field(default_factory=lambda: _pauses())


class Supervisor:
    """Keeps programs running, in the order given, until it is left; stops them in reverse order.

    A program that ends is started again, at first at once and then after ever longer pauses: a
    node that comes back too soon is refused by its server for a while.
    """

    def __init__(self, programs: Sequence[Program], *, say: Callable[[str], None]) -> None:
        """Nothing is started yet.

        Args:
            programs: What to run.
            say: Is told of every start and end.
        """
        self._running = [_Running(program) for program in programs]
        self._say = say

    def __enter__(self) -> Supervisor:
        """Start the programs."""
        self.look()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the programs."""
        for running in reversed(self._running):
            if running.process is not None:
                _stop(running.process)
                self._say(f"{running.program.name} has stopped.")

    def look(self) -> None:
        """Start what has ended, or is due."""
        for running in self._running:
            process = running.process
            if process is not None and process.poll() is not None:
                self._ended(running, process)
            if running.process is None and time.monotonic() >= running.due:
                self._start(running)

    def run(self) -> None:
        """Look again and again; never returns."""
        while True:
            self.look()
            time.sleep(_LOOK_SECONDS)

    def _start(self, running: _Running) -> None:
        program = running.program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the supervisor alone, which stops one by one.
            running.process = subprocess.Popen(
                program.command,
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        running.started = time.monotonic()
        self._say(f"{program.name} has started; its log is {program.log}.")

    def _ended(self, running: _Running, process: subprocess.Popen[bytes]) -> None:
        _kill_group(process)  # helpers of a program that was killed
        now = time.monotonic()
        if now - running.started >= _WELL_SECONDS:
            running.pauses = _pauses()
        pause = next(running.pauses)
        running.process, running.due = None, now + pause
        self._say(
            f"{running.program.name} ended with exit code {process.returncode} "
            f"({_last_line(running.program.log)}); it starts again in {pause:.0f} s."
        )


@contextlib.contextmanager
def until_told_to_stop() -> Iterator[None]:
    """Leave the block quietly at Ctrl-C and at SIGTERM."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a program and its helpers, gently first."""
    process.terminate()
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what a program left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _last_line(log: Path) -> str:
    """The end of a log that says most in few words."""
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - 4096))
        lines = handle.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "it said nothing")


def _pauses() -> Iterator[float]:
    """Seconds before the next start, ever longer up to a limit."""
    seconds = _FIRST_PAUSE_SECONDS
    while True:
        yield seconds
        seconds = min(seconds * 2, _LONGEST_PAUSE_SECONDS)
