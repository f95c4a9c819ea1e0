"""A study's events as progress bars."""

from __future__ import annotations

from rich.progress import Progress, TaskID

from segfed.cli import console
from segfed.cli.study_plan import plan_table
from segfed.study.events import (
    CaseScored,
    StudyChecked,
    StudyEvent,
    TrainingAdvanced,
    TrainingFinished,
    TrainingStarted,
)
from segfed.study.models import ModelId


class StudyProgress:
    """Shows one bar for each training, and one for the scoring of all test cases."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[ModelId, TaskID] = {}
        self._scoring: TaskID | None = None
        self._n_to_score = 0

    def __call__(self, event: StudyEvent) -> None:
        """Take one event."""
        match event:
            case StudyChecked():
                self._show_plan(event)
            case TrainingStarted():
                self._bars[event.model] = self._progress.add_task(
                    f"{event.model}", total=event.total, note=event.unit
                )
            case TrainingAdvanced():
                self._progress.update(
                    self._bars[event.model], completed=event.done, note=_advance_note(event)
                )
            case TrainingFinished():
                self._show_finished(event)
            case CaseScored():
                self._advance_scoring()

    def _show_plan(self, event: StudyChecked) -> None:
        """What will run, before it runs."""
        console.err.print(plan_table(event))
        console.show_warnings(event.warnings)
        self._n_to_score = event.n_models * event.n_test_cases

    def _show_finished(self, event: TrainingFinished) -> None:
        """A full bar, with the time or the word that an earlier run had done it."""
        bar = self._bars[event.model]
        total = self._progress.tasks[self._progress.task_ids.index(bar)].total
        note = "kept from an earlier run" if event.reused else f"{event.seconds:.0f} s"
        self._progress.update(bar, completed=total, note=note)

    def _advance_scoring(self) -> None:
        """One more prediction is scored."""
        if self._scoring is None:
            self._scoring = self._progress.add_task(
                "predict and score", total=self._n_to_score, note=""
            )
        self._progress.advance(self._scoring)


def _advance_note(event: TrainingAdvanced) -> str:
    """Loss, and validation Dice where a round brought one."""
    parts = [] if event.loss is None else [f"loss {event.loss:.3f}"]
    record = event.round_record
    if record is not None and record.validation_dice is not None:
        parts.append(f"Dice {record.validation_dice:.3f}")
    return ", ".join(parts)
