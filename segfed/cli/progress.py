"""How far a submitted study is, from the files that its server writes."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from segfed.protocol import RoundRecord, ServerJob, StudyFolder
from segfed.run_files import STATE_FILE, read_rounds, read_state
from segfed.settings import load_json

RunState = Literal["not submitted", "starting", "running", "stopped", "finished"]


@dataclass(frozen=True)
class StudyProgress:
    """A submitted study as it is now."""

    study: str
    state: RunState
    rounds: int
    """Rounds of the whole study."""

    records: tuple[RoundRecord, ...]
    """Rounds that are done."""

    sites: dict[str, int]
    """Number of each site's node."""

    answered: tuple[str, ...] | None
    """Sites whose update of the round in progress is in; None under masks, which hide that."""

    best_round: int | None
    problem: str
    """Why the server's process failed, or ended the run early; empty where it did not say."""

    @property
    def seconds_left(self) -> float | None:
        """As many rounds more at the mean of those so far; None before the first."""
        if self.state == "finished":
            return 0.0
        if not self.records:
            return None
        left = self.rounds - len(self.records)
        return left * fmean(record.seconds for record in self.records)


def read_progress(folder: StudyFolder) -> StudyProgress:
    """How far a study is; one that was never submitted has no rounds.

    Raises:
        ConfigError: If the study's files are damaged.
    """
    if not folder.job.exists():
        return StudyProgress("", "not submitted", 0, (), {}, (), None, "")
    job = load_json(folder.job, ServerJob, kind="submitted study")
    # Looked at first: what runs now may be done a moment later, but not the other way round.
    runs = is_locked(folder.lock)
    state = read_state(folder.run) if (folder.run / STATE_FILE).exists() else None
    return StudyProgress(
        study=job.manifest.study,
        state=_run_state(folder, runs=runs, finished=state is not None and state.finished),
        rounds=job.manifest.rounds,
        records=read_rounds(folder.run, state) if state else (),
        sites=job.sites,
        answered=None if job.manifest.privacy.secure_aggregation else _answered(folder),
        best_round=state.best_round if state else None,
        problem=_read(folder.problem) or (state.ended if state else ""),
    )


def submitted_studies(server_folder: Path) -> tuple[StudyFolder, ...]:
    """All studies of a server, the last submitted one last."""
    jobs = sorted(server_folder.glob("studies/*/job.json"), key=lambda path: path.stat().st_mtime)
    return tuple(StudyFolder(path.parent) for path in jobs)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file."""
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        return False
    with handle:
        try:
            # Shared, so that two who look do not take each other for the server.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _run_state(folder: StudyFolder, *, runs: bool, finished: bool) -> RunState:
    """A run that Flower took but whose process has not begun yet is starting."""
    if finished:
        return "finished"
    if runs:
        return "running"
    has_begun = folder.begun.exists() and _read(folder.begun) == _read(folder.run_id)
    return "stopped" if has_begun else "starting"


def _answered(folder: StudyFolder) -> tuple[str, ...]:
    """Whose update lies here."""
    return tuple(sorted(path.stem for path in folder.run.glob("spool/*.update")))


def _read(path: Path) -> str:
    """A file's text; empty where there is none."""
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""
