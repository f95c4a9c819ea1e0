"""A process for work that takes long, needs much memory or may crash."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from segfed.errors import SegfedError, ServerError

logger = logging.getLogger(__name__)

MOST_WAITING = 32
"""Jobs that may wait for the process; a further one is refused at once."""

TIMEOUT_SECONDS = 600.0
"""A large CT takes minutes without a GPU; what takes longer than this hangs."""

_END_SECONDS = 5.0
_NICENESS = 5  # short requests to the server come before long work

# The process starts anew, which frees what it held in its own memory and the GPU's.
_spawn = multiprocessing.get_context("spawn")
# In the worker process: not 0 once somebody waits for it to be free.
_hurry: Any = None

Result = TypeVar("Result")


class Interrupted(Exception):  # noqa: N818 -- a request, not an error
    """A job of low priority made way for one that somebody waits for."""


class _Died(Exception):  # noqa: N818 -- never leaves this module
    """The process ended while it worked."""


@dataclass(frozen=True)
class _Answer:
    """What the process sends back."""

    result: object = None
    error: Exception | None = None
    is_last: bool = False
    """The process ends after it."""


def make_way() -> None:
    """What a long job of low priority calls now and then.

    Raises:
        Interrupted: If a job of high priority waits.
    """
    if _hurry is not None and _hurry.value:
        raise Interrupted


class Worker:
    """One process that does one job after the other, and is replaced when it dies.

    A job is a function without arguments that can be pickled: a function of a module, or a
    ``functools.partial`` of one. The process starts with the first job and ends with this one,
    however this one ends.
    """

    def __init__(
        self, *, timeout_seconds: float = TIMEOUT_SECONDS, most_waiting: int = MOST_WAITING
    ) -> None:
        """Prepare a worker without starting its process.

        Args:
            timeout_seconds: A process that works longer on one job is killed.
            most_waiting: Jobs that may wait for the process.
        """
        self.timeout_seconds = timeout_seconds
        self._most_waiting = most_waiting
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self.n_waiting = 0
        # Without a lock, which a process that is killed would never release.
        self._hurry = _spawn.RawValue("b", 0)
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def ask(self, job: Callable[[], Result]) -> Result:
        """The result of a job that somebody waits for; tried once more if the process dies.

        Raises:
            ServerError: If the job took too long or all memory, if the process died twice, or if
                too many wait already. The next job finds a working process.
            SegfedError: If the job itself raised it.
        """
        with self._waiting():
            self._turn.acquire()
        try:
            try:
                return self._exchange(job)
            except _Died:
                return self._exchange(job)
        except _Died as error:
            raise ServerError(
                "The process that computes proposals ended twice while it worked on this one; "
                f"expected a result ({error}). Other cases can go on: ask again, draw this one by "
                "hand, and tell whoever runs the server: its log says why."
            ) from error
        finally:
            self._turn.release()

    def ask_if_idle(self, job: Callable[[], Result]) -> Result | None:
        """The result of a job of low priority; None if the process is needed for another one.

        Raises:
            ServerError: As `ask` does.
            SegfedError: If the job itself raised it.
        """
        if not self._turn.acquire(blocking=False):
            return None
        try:
            return self._exchange(job)
        except Interrupted:
            return None
        except _Died as error:
            raise ServerError(
                f"The process that computes proposals ended while it worked ({error}); expected a "
                "result. The next request starts another one."
            ) from error
        finally:
            self._turn.release()

    def end(self) -> None:
        """Kill the process, if there is one; the next job starts another."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Count a job as waiting, which hurries one of low priority."""
        with self._counting:
            if self.n_waiting >= self._most_waiting:
                raise ServerError(
                    f"Found {self.n_waiting} requests that wait for a proposal; expected at most "
                    f"{self._most_waiting}. Ask again in a minute."
                )
            self.n_waiting += 1
            self._hurry.value = 1
        try:
            yield
        finally:
            with self._counting:
                self.n_waiting -= 1
                self._hurry.value = int(self.n_waiting > 0)

    def _exchange(self, job: Callable[[], Result]) -> Result:
        """Have one job done by the process, which is this thread's alone meanwhile."""
        pipe = self._started()
        try:
            pipe.send(job)
            if not pipe.poll(self.timeout_seconds):
                self.end()
                raise ServerError(
                    f"A proposal was not ready after {self.timeout_seconds:g} s and was given "
                    "up; expected it sooner. Ask again once; then draw the case by hand, and tell "
                    "whoever runs the server."
                )
            answer: _Answer = pipe.recv()
        except (EOFError, ConnectionError) as error:
            code = self._exit_code()
            self.end()
            logger.warning("The worker process ended (exit code %s); a new one takes over", code)
            raise _Died(f"exit code {code}") from error
        if answer.is_last:
            self.end()
        if answer.error is not None:
            raise answer.error
        result: Any = answer.result
        return result  # type: ignore[no-any-return]

    def _exit_code(self) -> int | None:
        """How the process ended; its pipe breaks a moment before."""
        if self._process is None:
            return None
        self._process.join(_END_SECONDS)
        return self._process.exitcode

    def _started(self) -> Connection:
        """The pipe to a process that lives."""
        if self._process is not None and not self._process.is_alive():
            self.end()
        if self._pipe is None:
            self._pipe, theirs = _spawn.Pipe()
            self._process = _spawn.Process(
                target=_work, args=(theirs, self._hurry), name="proposals", daemon=True
            )
            self._process.start()
            theirs.close()  # so that the pipe ends when the process does
        return self._pipe


def _work(pipe: Connection, hurry: Any) -> None:
    """What the process does: one job after the other, until memory or the server ends."""
    global _hurry
    _hurry = hurry
    os.nice(_NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer = _Answer()
    while not answer.is_last:
        try:
            job = pipe.recv()
        except EOFError:
            return
        answer = _answer(job)
        pipe.send(answer)


def _answer(job: Callable[[], object]) -> _Answer:
    """A job's result, or why there is none."""
    try:
        return _Answer(job())
    except (SegfedError, Interrupted) as error:
        return _Answer(error=error)
    except MemoryError:
        logger.exception("Out of memory")
        explained = ServerError(
            "There was not enough memory for this proposal; expected enough for the whole image. "
            "What it held was freed. Close other programs and ask again, or draw the case by hand."
        )
        return _Answer(error=explained, is_last=True)
    except Exception:
        logger.exception("A job failed")
        return _Answer(
            error=ServerError(
                "The proposal failed in a way that nobody foresaw; expected a label. Draw the case "
                "by hand, and tell whoever runs the server: its log says why."
            )
        )


def _end_with_parent() -> None:
    """End at once when the server has ended, even in the middle of a job."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
