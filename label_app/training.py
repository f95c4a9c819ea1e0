"""Slicer's train button: the site's own training, in a process of its own.

MONAI Label would start a child that loads the whole app and calls this server back over plain
HTTP, which neither TLS nor a login lets through. So these requests are answered here.
"""

# ruff: noqa: ARG002 -- the signatures are MONAI Label's

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.interfaces.utils.app import app_instance
from pydantic import BaseModel, Field

from label_app.answers import explaining
from segfed.processes import die_with_parent
from segfed.sites import Site, load_site
from segfed.study.fine_tune import WORK_FOLDER
from segfed.study.own_labels import ArmChoice, Choice, labels_to_train_on
from segfed.study.resumable import TrainingState, read_state

LOG_FILE = Path("cache", "fine_tune.log")
_SHOWN_LINES = 20
_MOST_LOG_BYTES = 64 * 1024
_GRACE_SECONDS = 10.0
# A line a message: nobody knows here how wide Slicer's window is.
_LINE_WIDTH = "1000"


class Wishes(BaseModel):
    """What Slicer's table of options lets a reader choose; all else that it sends is ignored."""

    minutes: Annotated[float, Field(ge=0.01, le=24 * 60)] = 30
    labels: ArmChoice = "mixed"


class TrainingJob:
    """The one training that the server may run at a time, and what became of the last one."""

    def __init__(self, site_folder: Path, *, device: str) -> None:
        """Know the site; nothing is started yet.

        Args:
            site_folder: The site.
            device: Where to train: ``cpu``, ``cuda`` or ``auto``.
        """
        self._folder = site_folder
        self._device = device
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._task: dict[str, Any] = {}
        self._last_state: TrainingState | None = None

    @property
    def is_running(self) -> bool:
        """Whether a training is under way."""
        return bool(self._task) and self._task["status"] == "RUNNING"

    @property
    def state(self) -> TrainingState | None:
        """How far the training has come, or had when it ended; None before the first."""
        if self.is_running:
            self._last_state = read_state(self._folder / WORK_FOLDER) or self._last_state
        return self._last_state

    def start(self, wishes: Wishes) -> dict[str, Any]:
        """Start a training; returns the task as Slicer reads it.

        What would stop the training is found before it starts: Slicer shows a refusal in words,
        but of a training that failed only the word ERROR.

        Raises:
            HTTPException: 429 if one is running, 422 if there are no labels to train on or an
                image or label is damaged.
        """
        with self._lock:
            if self.is_running:
                raise HTTPException(
                    429, "A training is running, expected one at a time. Wait for it, or stop it."
                )
            with explaining(self._folder):
                site = load_site(self._folder)
                labels_to_train_on(site, Choice(arm=wishes.labels))
            self._task = {
                "id": str(uuid.uuid4()),
                "status": "RUNNING",
                "request": {"model": site.task.name} | wishes.model_dump(),
                "start_ts": _now(),
            }
            self._last_state = None
            started = threading.Event()
            threading.Thread(
                target=self._run, args=(self._command(site, wishes), started), daemon=True
            ).start()
            started.wait()
        return self.task()

    def task(self) -> dict[str, Any]:
        """The running or last training with the end of its log; empty before the first.

        ``details`` always has a line, because Slicer asks for the last one.
        """
        if not self._task:
            return {}
        return self._task | {"details": [*self._last_lines(), self._progress()]}

    def stop(self) -> dict[str, Any] | None:
        """End the running training; None if there is none. Its progress is kept."""
        with self._lock:
            process = self._process
            if process is None or not self.is_running:
                return None
            self._finish("STOPPED")
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return self.task()

    def _command(self, site: Site, wishes: Wishes) -> tuple[str, ...]:
        """A training at low priority: proposals go first."""
        return (
            *("nice", "-n", "10"),
            *(sys.executable, "-c", "from segfed.cli import main; main()"),
            *("train", str(site.folder), "--publish"),
            *("--minutes", str(wishes.minutes)),
            *("--arm", wishes.labels),
            *("--device", self._device),
        )

    def _run(self, command: Sequence[str], started: threading.Event) -> None:
        """Start the process and wait for its end, in one thread.

        Linux ends the process with the thread that started it, so that thread must stay.
        """
        try:
            with (self._folder / LOG_FILE).open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    env=os.environ | {"COLUMNS": _LINE_WIDTH},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent(),
                )
            started.set()
            code = self._process.wait()
        except OSError:
            self._finish("ERROR")
            raise
        finally:
            started.set()
        self._finish("DONE" if code == 0 else "ERROR")

    def _finish(self, status: str) -> None:
        """Note how the training ended; the first word on it counts."""
        if self.is_running:
            self._task |= {"status": status, "end_ts": _now()}

    def _last_lines(self) -> list[str]:
        """The end of the log."""
        try:
            with (self._folder / LOG_FILE).open("rb") as log:
                log.seek(max(log.seek(0, os.SEEK_END) - _MOST_LOG_BYTES, 0))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [line.strip() for line in lines if line.strip()][-_SHOWN_LINES:]

    def _progress(self) -> str:
        """How far the training has come, in words."""
        state = self.state
        if state is None:
            # A short training may end before anybody asks how far it is.
            status = self._task["status"]
            return f"{status}: no step has been taken yet." if self.is_running else f"{status}."
        line = f"{self._task['status']}: step {state.step} of {state.total_steps}"
        if state.start_dice is not None:
            line += f", validation Dice {state.start_dice:.3f} before"
        if state.best_dice is not None:
            line += f", best so far {state.best_dice:.3f}"
        return line


class FineTuner(TrainTask):
    """The training as ``/info/`` lists it, so that Slicer shows the button."""

    def __init__(self, job: TrainingJob) -> None:
        super().__init__("Goes on training the published model on this site's approved labels")
        self._job = job

    def config(self) -> dict[str, Any]:
        """Options for Slicer's table; of a list Slicer sends the entry chosen."""
        return {"minutes": 30, "labels": ["mixed", "manual", "assisted"]}

    def stats(self) -> dict[str, Any]:
        """Progress for Slicer's bars, which count epochs."""
        state = self._job.state
        if state is None:
            return {}
        stats: dict[str, Any] = {"epoch": state.step, "total_epochs": state.total_steps}
        if state.best_dice is not None:
            stats["best_metric"] = state.best_dice
        return stats

    def __call__(self, request: Any, datastore: Datastore) -> dict[str, Any]:
        """Start a training with the usual options."""
        return self._job.start(Wishes())


router = APIRouter(prefix="/train")


def _job() -> TrainingJob:
    job: TrainingJob = app_instance().training
    return job


@router.get("/")
def status(check_if_running: bool = False) -> dict[str, Any]:
    """The running training, or the last one unless asked for a running one only."""
    job = _job()
    if not job.task() or (check_if_running and not job.is_running):
        raise HTTPException(404, "No training is running here" if check_if_running else "No task")
    return job.task()


@router.post("/{model}")
def start(model: str, wishes: Wishes | None = None) -> dict[str, Any]:
    """Start a training."""
    job = _job()
    known = list(app_instance().info()["trainers"])
    if model not in known:
        raise HTTPException(
            404, f"Found no trainer {model!r}; expected {' or '.join(known)}. Choose that one."
        )
    return job.start(wishes or Wishes())


@router.delete("/")
def stop() -> dict[str, Any] | None:
    """Stop the running training."""
    return _job().stop()


def _now() -> str:
    """The time as MONAI Label writes it."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
