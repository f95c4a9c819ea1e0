"""The score and the ranking of the KiTS challenges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from segfed.evaluation.scorecard import Score

TIE_BREAKER = "tumor"


@dataclass(frozen=True)
class KitsScore:
    """Means over cases, then over structures, and the tumor Dice that breaks ties."""

    dice: float
    surface_dice: float
    tumor_dice: float


def kits_score(scores: Iterable[Score]) -> KitsScore:
    """The KiTS score of one model, from its rows under a ``kits*`` profile.

    Raises:
        ValueError: If a row of Dice, surface Dice or tumor Dice is missing altogether.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        values.setdefault((score.metric, score.structure), []).append(score.value)
    means = {key: float(np.mean(found)) for key, found in values.items()}

    def over_structures(metric: str) -> float:
        found = [mean for (name, _), mean in means.items() if name == metric]
        if not found or ("dice", TIE_BREAKER) not in means:
            raise ValueError(
                f"found no {metric} or no tumor Dice; score the model under a kits profile first"
            )
        return float(np.mean(found))

    return KitsScore(
        dice=over_structures("dice"),
        surface_dice=over_structures("surface_dice"),
        tumor_dice=means["dice", TIE_BREAKER],
    )


def rank_models(models: Mapping[str, KitsScore]) -> dict[str, int]:
    """Rank of each model, 1 best: mean of its ranks by Dice and by surface Dice.

    Ties are broken by tumor Dice; models that tie in that too share a rank.

    References:
        https://github.com/neheller/kits23, ``kits23/evaluation/ranking.py``.
    """
    if not models:
        return {}
    by_dice = stats.rankdata([-score.dice for score in models.values()], method="min")
    by_surface = stats.rankdata([-score.surface_dice for score in models.values()], method="min")
    # Pairs, because Python orders them by the first number and breaks ties by the second.
    keys = {
        name: (float(first + second) / 2, -score.tumor_dice)
        for (name, score), first, second in zip(models.items(), by_dice, by_surface, strict=True)
    }
    return {name: 1 + sum(other < key for other in keys.values()) for name, key in keys.items()}
