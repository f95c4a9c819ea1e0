"""What a late site costs the others."""

from __future__ import annotations

import pytest

from segfed.evaluation import forgetting
from segfed.protocol import RoundRecord


def rounds(**dice):
    """A run whose sites are scored as stated; a site trains from its first value on."""
    n_rounds = max(map(len, dice.values()))
    return [
        RoundRecord(
            round=index + 1,
            loss=None,
            validation_dice=None,
            sites={
                site: {"steps": None if values[index] is None else 2.0, "dice_x": values[index]}
                for site, values in dice.items()
            },
            seconds=1.0,
        )
        for index in range(n_rounds)
    ]


def test_the_change_at_the_old_sites_is_that_of_three_rounds_before_and_after():
    # a: 0.8 before, 0.7 after; b: 0.6 before, 0.6 after.
    run = rounds(
        a=[0.1, 0.7, 0.8, 0.9, 0.6, 0.7, 0.8],
        b=[0.1, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6],
        late=[None, None, None, None, 0.2, 0.3, 0.4],
    )

    (found,) = forgetting(run)

    assert (found.site, found.joined_in_round, found.rounds_compared) == ("late", 5, 3)
    assert found.changes == pytest.approx({"a": -0.1, "b": 0.0})
    assert found.change == pytest.approx(-0.05)
    assert (found.change_low, found.trend) == (None, None)  # two sites, four rounds before


def test_the_interval_is_over_the_old_sites():
    run = rounds(a=[0.5, 0.4], b=[0.5, 0.3], c=[0.5, 0.2], late=[None, 0.1])

    (found,) = forgetting(run)

    # Changes -0.1, -0.2, -0.3: mean -0.2, standard error 0.1 / sqrt 3, t(2) at 97.5 % is 4.303.
    assert found.change_low == pytest.approx(-0.2 - 4.303 * 0.1 / 3**0.5, abs=1e-4)
    assert found.change_high == pytest.approx(-0.2 + 4.303 * 0.1 / 3**0.5, abs=1e-4)


def test_the_trend_says_what_training_alone_would_have_brought():
    run = rounds(a=[0.2, 0.4, 0.5], late=[None, None, 0.1])

    (found,) = forgetting(run)

    assert found.change == pytest.approx(0.1)
    assert found.trend == pytest.approx(0.2)


def test_a_site_that_was_away_for_a_while_joins_nothing():
    assert forgetting(rounds(a=[0.5, 0.5, 0.5], b=[0.5, None, 0.5])) == ()


def test_without_a_dice_before_and_after_nothing_is_said():
    assert forgetting(rounds(a=[None, 0.4], b=[None, 0.4])) == ()
    assert forgetting([]) == ()
