"""What labelling cost, by arm: time, changed volume, and proposals accepted as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from statistics import mean, median
from typing import Any

from segfed.evaluation import Timing, time_ratio
from segfed.study.records import LabelRow


def summarize_effort(labels: Sequence[LabelRow]) -> dict[str, Any]:
    """Effort of each arm and, where both were timed, the ratio of their times."""
    arms = dict.fromkeys(row.arm for row in labels)
    by_arm = {arm: [row for row in labels if row.arm == arm] for arm in arms}
    sites = dict.fromkeys(row.site for row in labels)
    return {
        "arms": {
            arm: _summary(rows)
            | {"sites": {site: _summary(r for r in rows if r.site == site) for site in sites}}
            for arm, rows in by_arm.items()
        },
        "time_ratio": _time_ratio(labels),
    }


def _summary(rows: Iterable[LabelRow]) -> dict[str, Any]:
    """Counts, and means of what was recorded; None where nothing was."""
    rows = list(rows)
    proposed = [row for row in rows if row.proposal_sha256 is not None]
    accepted = sum(row.origin == "ai_accepted" for row in proposed)
    return {
        "n": len(rows),
        "n_with_proposal": len(proposed),
        "readers": sorted({row.reader for row in rows}),
        "accepted_unchanged": accepted / len(proposed) if proposed else None,
        "changed_fraction_median": _of(median, (row.changed_fraction for row in proposed)),
        "added_mm3_mean": _of(mean, (row.added_mm3 for row in proposed)),
        "removed_mm3_mean": _of(mean, (row.removed_mm3 for row in proposed)),
        "added_path_length_mean": _of(mean, (row.added_path_length for row in proposed)),
        "proposal_dice_mean": _of(mean, (row.proposal_dice for row in proposed)),
        "proposal_surface_dice_mean": _of(mean, (row.proposal_surface_dice for row in proposed)),
        "reference_dice_mean": _of(mean, (row.reference_dice for row in rows)),
        "n_with_reference": sum(row.reference_dice is not None for row in rows),
        "references": sorted({row.reference for row in rows if row.reference is not None}),
        "active_seconds_mean": _of(mean, (row.active_seconds for row in rows)),
        "active_seconds_median": _of(median, (row.active_seconds for row in rows)),
        "n_timed": sum(row.active_seconds is not None for row in rows),
        "changed_fractions": [
            row.changed_fraction for row in proposed if row.changed_fraction is not None
        ],
        "active_seconds": [row.active_seconds for row in rows if row.active_seconds is not None],
    }


def _of(average: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """An average of the values that are there."""
    known = [value for value in values if value is not None]
    return average(known) if known else None


def _time_ratio(labels: Sequence[LabelRow]) -> dict[str, Any] | None:
    """Assisted over manual seconds, as plain data; None where no label of either arm was timed."""
    found = time_ratio(
        [
            Timing(
                site=row.site,
                reader=row.reader,
                case=row.case,
                arm=row.arm,
                period=row.period,
                seconds=row.active_seconds,
            )
            for row in labels
            if row.active_seconds and row.arm in ("manual", "assisted")
        ]
    )
    return None if found.ratio is None else asdict(found)
