"""How fast a federation gets good, as the FeTS challenge measured it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def convergence_score(
    mean_dice: Sequence[float],
    seconds_by_site: Sequence[Mapping[str, float]],
    *,
    horizon_seconds: float | None = None,
) -> float:
    """Area under best-so-far mean Dice over simulated time, divided by that time.

    A round lasts as long as its slowest site; its result counts from its end on.

    Args:
        mean_dice: Mean validation Dice after each round.
        seconds_by_site: Seconds that each site needed in each round.
        horizon_seconds: Time over which to average, so that runs of different length compare; the
            best result is kept up to it. By default the end of the last round.

    Returns:
        A value between 0 and the best Dice; NaN without any time.

    Raises:
        ValueError: If the lengths differ, or the horizon lies before the end of the last round.
    """
    if len(mean_dice) != len(seconds_by_site):
        raise ValueError(
            f"found {len(mean_dice)} Dice values and times of {len(seconds_by_site)} rounds; "
            "give one of each for every round"
        )
    area, best, elapsed = 0.0, 0.0, 0.0
    for value, seconds in zip(mean_dice, seconds_by_site, strict=True):
        duration = max(seconds.values())
        area += best * duration
        elapsed += duration
        best = max(best, value)
    horizon = elapsed if horizon_seconds is None else horizon_seconds
    if horizon < elapsed:
        raise ValueError(
            f"horizon_seconds is {horizon:g}, but the rounds took {elapsed:g} s; give at least that"
        )
    return (area + best * (horizon - elapsed)) / horizon if horizon else math.nan
