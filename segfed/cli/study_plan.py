"""A study's plan as a table: what will be trained, what is kept, and how long that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import mean
from typing import Any

from rich.table import Table

from segfed.study.events import Action, ScheduledModel, StudyChecked
from segfed.study.models import UNTRAINED

_ACTIONS: dict[Action, str] = {
    "train": "to train",
    "resume": "to go on with",
    "build": "made",
    "keep": "kept",
    "leave out": "left out",
}


def plan_table(checked: StudyChecked) -> Table:
    """One row for each regime and arm, with the sum of what is still to be done below."""
    schedule = checked.schedule
    groups: dict[tuple[str, str], list[ScheduledModel]] = {}
    for item in schedule.models:
        groups.setdefault((item.model.regime, item.model.arm), []).append(item)
    is_timed = any(item.seconds or item.still_seconds for item in schedule.models)
    at_a_time = f"{schedule.workers} model{'s' if schedule.workers > 1 else ''} at a time"
    table = Table(
        box=None,
        header_style="bold",
        caption=f"In all: {_duration(schedule.expected_seconds)}, {at_a_time}; times go by the "
        "models that were trained in this run folder before"
        if is_timed
        else f"{at_a_time}; how long they take is known once one of them was trained",
        caption_justify="left",
    )
    for name in ("regime", "labels", "models"):
        table.add_column(name)
    for name in ("steps", "to predict", *(("took", "still takes") if is_timed else ())):
        table.add_column(name, justify="right")
    for (regime, arm), items in groups.items():
        kept = [item.seconds for item in items if item.action == "keep" and item.seconds]
        left = [item for item in items if item.action != "leave out"]
        times = (
            _duration(mean(kept)) if kept else "",
            _duration(_sum([item.still_seconds for item in left])),
        )
        table.add_row(
            regime,
            arm if regime != UNTRAINED else "",
            _actions(items),
            str(items[0].steps),
            str(sum(item.n_predictions for item in left)),
            *(times if is_timed else ()),
        )
    return table


def plan_json(checked: StudyChecked) -> dict[str, Any]:
    """The same, and every model by itself, for a program."""
    return {
        "n_test_cases": checked.n_test_cases,
        "budget_steps": checked.budget_steps,
        "warnings": list(checked.warnings),
        **checked.schedule.as_json(),
    }


def _actions(items: Sequence[ScheduledModel]) -> str:
    """``2 to train, 1 kept``."""
    counts = Counter(item.action for item in items)
    return ", ".join(f"{counts[name]} {words}" for name, words in _ACTIONS.items() if counts[name])


def _sum(seconds: Sequence[float | None]) -> float | None:
    """A sum; None where a part is unknown."""
    known = [value for value in seconds if value is not None]
    return sum(known) if len(known) == len(seconds) else None


def _duration(seconds: float | None) -> str:
    """About how long, or a question mark."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
