"""Test cases one by one: their Dice, worst first, and their volumes against the reference's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from segfed.report.values import MEAN_OF_STRUCTURES, Scores, json_number

_LIMIT_SDS = 1.96


def list_cases(scores: Scores) -> dict[str, Any] | None:
    """Every test case's figures for the model that all sites share, the worst case first.

    Returns:
        The regime, cases with their mean Dice by arm, and for each structure the cases' volumes
        with the limits of agreement (Bland and Altman 1986); None where no model learned from all
        sites.
    """
    regimes = scores.regimes()
    regime = next((r for r in ("federated", "pooled", "ensemble") if r in regimes), None)
    if regime is None:
        return None
    arms = regimes[regime]
    dice = _by_case(scores, regime, arms, MEAN_OF_STRUCTURES, "dice")
    ranked = sorted(dice, key=lambda key: _worst_first(list(dice[key].values())))
    return {
        "regime": regime,
        "cases": [_row(scores, key) | {"dice": dice[key]} for key in ranked],
        "structures": {
            name: _structure(scores, regime, arms, name) for name in scores.structures()
        },
    }


def _structure(scores: Scores, regime: str, arms: Sequence[str], name: str) -> dict[str, Any]:
    """One structure's cases that have a reference, and how far volumes are off by arm."""
    found = {
        metric: _by_case(scores, regime, arms, name, metric)
        for metric in ("dice", "reference_mm3", "volume_difference_mm3")
    }
    rows = [
        _row(scores, key)
        | {
            "reference_mm3": next(iter(volumes.values())),
            "dice": found["dice"][key],
            "volume_difference_mm3": found["volume_difference_mm3"][key],
        }
        for key, volumes in found["reference_mm3"].items()
    ]
    return {
        "cases": rows,
        "agreement": {
            arm: _limits([row["volume_difference_mm3"][arm] for row in rows]) for arm in arms
        },
    }


def _by_case(
    scores: Scores, regime: str, arms: Sequence[str], structure: str, metric: str
) -> dict[tuple[str, str], dict[str, float | None]]:
    """One metric by site and case, then arm, external sites last."""
    sites = [*scores.test_sites, *sorted(scores.external)]
    by_case: dict[tuple[str, str], dict[str, float | None]] = {}
    for arm in arms:
        values = scores.values(regime, arm, structure, metric, sites=sites)
        for site, cases in values.items():
            for case, value in cases.items():
                by_case.setdefault((site, case), {})[arm] = json_number(value)
    return by_case


def _row(scores: Scores, key: tuple[str, str]) -> dict[str, Any]:
    """Which case it is."""
    return {"site": key[0], "case": key[1], "external": key[0] in scores.external}


def _worst_first(dice: Sequence[float | None]) -> float:
    """A case's place by its lowest Dice; one without any comes last."""
    return min((value for value in dice if value is not None), default=math.inf)


def _limits(differences: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean difference and the range of 95 % of differences; None with too few cases."""
    known = [value for value in differences if value is not None]
    mean = fmean(known) if known else None
    half = _LIMIT_SDS * stdev(known) if len(known) > 1 else None
    return {
        "mean_mm3": mean,
        "low_mm3": None if mean is None or half is None else mean - half,
        "high_mm3": None if mean is None or half is None else mean + half,
        "n": len(known),
    }
