"""What it costs the sites of a federation that another one joins late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from segfed.evaluation.statistics import t_half
from segfed.protocol import RoundRecord

_DICE = "dice_"
_WINDOW = 3
"""Rounds before and after that are compared: one round alone is chance."""


@dataclass(frozen=True)
class Forgetting:
    """A site that joined late, and how the others' validation Dice changed."""

    site: str
    joined_in_round: int
    rounds_compared: int
    """Rounds on each side."""

    changes: dict[str, float]
    """Per site that was there before: mean Dice of the rounds from the joining on, minus that of
    the rounds before it."""

    change: float
    """Mean over these sites."""

    change_low: float | None
    change_high: float | None
    """95 % t interval over these sites; None below three of them."""

    trend: float | None
    """What the change would be, had Dice gone on as over the rounds before the joining; None where
    there are too few of them."""


def forgetting(records: Sequence[RoundRecord]) -> tuple[Forgetting, ...]:
    """Each site whose first update counted after the first round, and what its coming changed.

    Up to three rounds on each side are compared, at the sites and for the structures that were
    scored in all of them. Training goes on meanwhile: read ``change`` beside ``trend``. A site that
    was only away for some rounds is none that joins. Nothing is known of single sites under secure
    aggregation but their Dice, which is enough.

    Args:
        records: The rounds of a run, from the first.
    """
    found = []
    for site in sorted({name for record in records for name in record.sites}):
        first = _first_round(records, site)
        if first is not None and first > 0:
            found += list(_cost(records, site, first))
    return tuple(sorted(found, key=lambda item: (item.joined_in_round, item.site)))


def _first_round(records: Sequence[RoundRecord], site: str) -> int | None:
    """Index of the first round that counted an update of a site."""
    for index, record in enumerate(records):
        was_dropped = record.dropped.get(site, "").startswith("train")
        if record.sites.get(site, {}).get("steps") is not None and not was_dropped:
            return index
    return None


def _cost(records: Sequence[RoundRecord], site: str, first: int) -> Iterator[Forgetting]:
    """What the joining changed; nothing where no other site was scored before and after."""
    n_rounds = min(_WINDOW, first, len(records) - first)
    before, after = records[first - n_rounds : first], records[first : first + n_rounds]
    changes, trends = {}, []
    for other in sorted({name for record in before for name in record.sites} - {site}):
        names = _scored_always(other, [*before, *after])
        if not names or (start := _first_round(records, other)) is None or start >= first:
            continue
        then, now = ([_mean_dice(r, other, names) for r in part] for part in (before, after))
        changes[other] = fmean(now) - fmean(then)
        earlier = records[first - 2 * n_rounds : first - n_rounds] if first >= 2 * n_rounds else ()
        if earlier and names <= _scored_always(other, earlier):
            trends.append(fmean(then) - fmean(_mean_dice(r, other, names) for r in earlier))
    if not changes:
        return
    values = np.array(list(changes.values()))
    half = t_half(values) if len(values) >= 3 else None
    change = float(values.mean())
    yield Forgetting(
        site=site,
        joined_in_round=records[first].round,
        rounds_compared=n_rounds,
        changes=changes,
        change=change,
        change_low=None if half is None else change - half,
        change_high=None if half is None else change + half,
        trend=fmean(trends) if len(trends) == len(changes) else None,
    )


def _scored_always(site: str, records: Sequence[RoundRecord]) -> set[str]:
    """The structures that a site scored in all of some rounds."""
    scored = [
        {
            name
            for name, value in record.sites.get(site, {}).items()
            if name.startswith(_DICE) and value is not None
        }
        for record in records
    ]
    return set.intersection(*scored)


def _mean_dice(record: RoundRecord, site: str, names: set[str]) -> float:
    return fmean(record.sites[site][name] or 0.0 for name in names)
