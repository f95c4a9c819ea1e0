"""The KiTS ranking, worked out by hand."""

from __future__ import annotations

import pytest

from segfed.evaluation import KitsScore, Score, kits_score, rank_models


def test_the_score_averages_cases_first_and_then_structures():
    scores = [
        # Two cases for one structure, one for the other: (0.2 + 0.4) / 2 = 0.3; (0.3 + 0.9) / 2.
        Score("a", "tumor", "dice", 0.2),
        Score("b", "tumor", "dice", 0.4),
        Score("a", "mass", "dice", 0.9),
        Score("a", "mass", "surface_dice", 0.5),
    ]

    assert kits_score(scores) == KitsScore(
        dice=pytest.approx(0.6), surface_dice=0.5, tumor_dice=pytest.approx(0.3)
    )


def test_without_tumor_dice_there_is_no_score():
    with pytest.raises(ValueError, match="no tumor Dice"):
        kits_score([Score("a", "mass", "dice", 0.9), Score("a", "mass", "surface_dice", 0.9)])


def test_models_are_ranked_by_the_mean_of_two_ranks():
    models = {
        "steady": KitsScore(dice=0.90, surface_dice=0.80, tumor_dice=0.7),  # ranks 2 and 2
        "sharp": KitsScore(dice=0.80, surface_dice=0.90, tumor_dice=0.6),  # ranks 3 and 1
        "best": KitsScore(dice=0.95, surface_dice=0.79, tumor_dice=0.5),  # ranks 1 and 3
        "worst": KitsScore(dice=0.10, surface_dice=0.10, tumor_dice=0.9),  # ranks 4 and 4
    }

    # Three tie at 2 and are ordered by tumor Dice.
    assert rank_models(models) == {"steady": 1, "sharp": 2, "best": 3, "worst": 4}


def test_a_tie_in_everything_shares_a_rank():
    same = KitsScore(dice=0.9, surface_dice=0.8, tumor_dice=0.7)
    worse = KitsScore(dice=0.1, surface_dice=0.1, tumor_dice=0.7)

    assert rank_models({"a": same, "b": same, "c": worse}) == {"a": 1, "b": 1, "c": 3}
    assert rank_models({}) == {}
