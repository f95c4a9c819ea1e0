"""How a study across hospitals goes, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from segfed.cli.progress import StudyProgress
from segfed.protocol import RoundRecord, most_spent

_DICE = "dice_"


def status_table(progress: StudyProgress, *, online: Mapping[str, bool] | None) -> Table:
    """A row for each site: is it there, its last Dice and traffic, and why it was late.

    Args:
        progress: The study.
        online: Whether each site's node is connected; None if nobody asked or nobody answers.
    """
    last = progress.records[-1] if progress.records else None
    table = Table("site", "node", "Dice", "seconds", "MB down", "MB up", "this round", box=None)
    for name in sorted(progress.sites):
        of_round = last.sites.get(name, {}) if last else {}
        table.add_row(
            name,
            _node(online, name),
            _number(_dice(of_round), "{:.3f}"),
            _number(of_round.get("seconds"), "{:.1f}"),
            _number(_total(progress, name, "bytes_down") / 1e6, "{:.1f}"),
            _number(_total(progress, name, "bytes_up") / 1e6, "{:.1f}"),
            _word(progress, last, name),
        )
    table.title = _title(progress)
    table.title_justify = "left"
    table.caption = progress.problem or None
    table.caption_justify = "left"
    return table


def status_json(progress: StudyProgress, *, online: Mapping[str, bool] | None) -> dict[str, Any]:
    """The same for a program; null where something is not known."""
    last = progress.records[-1] if progress.records else None
    return {
        "study": progress.study,
        "state": progress.state,
        "rounds_done": len(progress.records),
        "rounds": progress.rounds,
        "best_round": progress.best_round,
        "seconds_left": progress.seconds_left,
        "validation_dice": last.validation_dice if last else None,
        "problem": progress.problem or None,
        "sites": {
            name: {
                "online": online.get(name) if online is not None else None,
                "answered": name in progress.answered if progress.answered is not None else None,
                "dropped": last.dropped.get(name) if last else None,
                "bytes_down": _total(progress, name, "bytes_down"),
                "bytes_up": _total(progress, name, "bytes_up"),
                "last_round": last.sites.get(name) if last else None,
            }
            for name in sorted(progress.sites)
        },
    }


def follow_line(record: RoundRecord, *, rounds: int) -> str:
    """One line for a finished round."""
    dropped = "".join(f"; {site}: {why}" for site, why in sorted(record.dropped.items()))
    dice = _number(record.validation_dice, "{:.3f}") or "unknown"
    return (
        f"Round {record.round} of {rounds}: validation Dice {dice}, {record.seconds:.1f} s{dropped}"
    )


def _title(progress: StudyProgress) -> str:
    """The study in a line."""
    left = progress.seconds_left
    ending = f", about {left:.0f} s left" if left and progress.state == "running" else ""
    best = f", best round {progress.best_round}" if progress.best_round else ""
    most = most_spent(progress.records)
    budget = "" if most is None else f", privacy budget: epsilon {most:.3g} spent"
    return (
        f"{progress.study}: {progress.state}, {len(progress.records)} of {progress.rounds} rounds "
        f"done{best}{ending}{budget}"
    )


def _node(online: Mapping[str, bool] | None, name: str) -> str:
    if online is None or name not in online:
        return "unknown"
    return "online" if online[name] else "away"


def _word(progress: StudyProgress, last: RoundRecord | None, name: str) -> str:
    """What a site did lately."""
    if progress.state == "running" and name in (progress.answered or ()):
        return "answered"
    if last is not None and name in last.dropped:
        return f"round {last.round}: {last.dropped[name]}"
    if progress.state == "running":
        return "unknown under masks" if progress.answered is None else "at work, or late"
    return "in time" if last else ""


def _dice(values: Mapping[str, float | None]) -> float | None:
    """Mean over structures."""
    known = [value for key, value in values.items() if key.startswith(_DICE) and value is not None]
    return sum(known) / len(known) if known else None


def _total(progress: StudyProgress, site: str, key: str) -> float:
    """Bytes over all rounds."""
    return sum(record.sites.get(site, {}).get(key) or 0 for record in progress.records)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
