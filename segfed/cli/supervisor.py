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
from typing import NoReturn

from rich.text import Text

from segfed.errors import FederationError
from segfed.files import locked
from segfed.processes import die_with_parent, has_child

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
# A program that ran so long had started well: what ended it is new.
_WELL_SECONDS = 60.0
_LOOK_SECONDS = 0.25
_DAY_SECONDS = 86_400.0
_GRACE_SECONDS = 15.0
_LAST_BYTES, _LONGEST_WORDS = 8192, 300


@dataclass(frozen=True)
class Program:
    """What to run, and where its output goes."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    reason: str = ""
    """Begins the line of the log that says why it ended, if there is a better one than the last."""

    ill: str = ""
    """Stands in the log once the program no longer works, though it goes on; it is killed then."""

    helper: str = ""
    """Stands in the command line of a process that the program starts and does not work without;
    it is killed, too, once that one has ended (on Linux)."""


@dataclass
class _Running:
    """A program's process, or when the next one is due."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    logged: int = 0
    """Bytes in the log when it was started."""

    looked: int = 0
    """Bytes of the log in which nothing was found of an illness."""

    helped: bool = False
    """Whether its helper was seen."""

    pauses: Iterator[float] = field(default_factory=lambda: _pauses())


class Supervisor:
    """Keeps programs running, in the order given, until it is left; stops them in reverse order.

    A program that ends, or says that it no longer works, is started again, at first at once and
    then after ever longer pauses: a node that comes back too soon is refused by its server for a
    while.
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
            if (
                process is not None
                and process.poll() is None
                and _no_longer_works(running, process)
            ):
                _kill_group(process)
                process.wait()
            if process is not None and process.poll() is not None:
                self._ended(running, process)
            if running.process is None and time.monotonic() >= running.due:
                self._start(running)

    def run(self, *, each_day: Callable[[], None]) -> NoReturn:
        """Look again and again.

        Args:
            each_day: Called at once, and every 24 hours from then on.
        """
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                each_day()
                due += _DAY_SECONDS
            self.look()
            time.sleep(_LOOK_SECONDS)

    def _start(self, running: _Running) -> None:
        program = running.program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            running.logged = running.looked = log.tell()
            running.helped = False
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
        words = _last_words(running.program, since=running.logged)
        self._say(
            f"{running.program.name} ended with exit code {process.returncode} ({words}); "
            f"it starts again in {pause:.0f} s."
        )


def only_one(lock: Path, *, what: str) -> contextlib.AbstractContextManager[None]:
    """Hold a lock file, so that the same programs are not started twice; ends with the process.

    Args:
        lock: The file; its folder exists.
        what: Who holds it, for people: "server of ...".

    Raises:
        FederationError: If another process has it.
    """
    taken = FederationError(
        f"Another {what} runs on this machine; expected none. Stop that one first, or leave it "
        "running."
    )
    return locked(lock, otherwise=taken)


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


def _no_longer_works(running: _Running, process: subprocess.Popen[bytes]) -> bool:
    """Whether a program that goes on had better be started again."""
    helper = running.program.helper
    has_helper = has_child(process.pid, helper) if helper else None
    lost_helper = running.helped and has_helper is False
    running.helped = running.helped or bool(has_helper)
    return lost_helper or _is_ill(running)


def _is_ill(running: _Running) -> bool:
    """Whether the log, as far as it is new, tells of an illness."""
    program = running.program
    if not program.ill or not program.log.exists():
        return False
    with program.log.open("rb") as handle:
        handle.seek(running.looked)
        content = handle.read()
    sign = program.ill.encode()
    # Half of the sign may be there, and the other half follow.
    running.looked += max(0, len(content) - len(sign))
    return sign in content


def _last_words(program: Program, *, since: int) -> str:
    """The line that says most of why a program ended.

    Args:
        program: What ended.
        since: Bytes that its log held when it was started.
    """
    with program.log.open("rb") as handle:
        handle.seek(max(since, program.log.stat().st_size - _LAST_BYTES))
        text = Text.from_ansi(handle.read().decode("utf-8", errors="replace")).plain
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if program.reason and line.startswith(program.reason)]
    return (reasons or lines or ["it said nothing"])[-1][:_LONGEST_WORDS]


def _pauses() -> Iterator[float]:
    """Seconds before the next start, ever longer up to a limit."""
    seconds = _FIRST_PAUSE_SECONDS
    while True:
        yield seconds
        seconds = min(seconds * 2, _LONGEST_PAUSE_SECONDS)
