"""What an attacker gains, and that guessing gains nothing."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.attacks import Candidate, attack_advantage
from segfed.errors import PrivacyError


def candidates(members, others, *, site="a"):
    return [
        *(Candidate(site, float(score), True) for score in members),
        *(Candidate(site, float(score), False) for score in others),
    ]


def test_the_auc_is_the_share_of_pairs_that_the_member_wins():
    # 1 wins against one other, 2 against two, 3 against three, 4 against four: 10 of 16 pairs.
    found = attack_advantage(candidates([1, 2, 3, 4], [0.5, 1.5, 2.5, 3.5]), seed=0)

    assert found.auc == pytest.approx(10 / 16)
    assert (found.n_members, found.n_others) == (4, 4)


def test_a_score_that_knows_gains_everything():
    found = attack_advantage(candidates(range(10, 20), range(10)), seed=0, n_bootstrap=200)

    assert (found.auc, found.auc_low) == (1, 1)
    # A threshold between the two is not always met by half of the patients.
    assert found.advantage > 0.8
    assert found.advantage_low > 0.5


def test_guessing_gains_nothing_on_average_and_its_interval_says_so():
    gains, covered = [], 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = attack_advantage(
            candidates(rng.normal(size=20), rng.normal(size=20)), seed=seed, n_bootstrap=200
        )
        gains.append(found.advantage)
        covered += found.advantage_low <= 0 <= found.advantage_high

    # Without a threshold of its own half, the best threshold would gain 0.25 by chance here.
    assert abs(np.mean(gains)) < 3 * np.std(gains) / 40**0.5
    assert covered >= 34


def test_a_site_with_easy_cases_and_many_members_gives_nobody_away():
    easy = candidates(np.linspace(4, 6, 40), np.linspace(4, 6, 10), site="easy")
    hard = candidates(np.linspace(-1, 1, 10), np.linspace(-1, 1, 40), site="hard")

    found = attack_advantage([*easy, *hard], seed=0, n_bootstrap=200)

    # Pooled, members would win 82 % of the pairs: 40 of 50 are at the easy site, where others are
    # 10 of 50. Within a site nothing tells them apart.
    assert found.auc == pytest.approx(0.5)
    assert found.advantage_low < 0 < found.advantage_high


def test_the_same_seed_gives_the_same_figures():
    scores = candidates(range(8), range(3, 11))

    assert attack_advantage(scores, seed=1) == attack_advantage(scores, seed=1)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (candidates([1, 2, 3], [1, 2, 3, 4]), "3 patients that the model learned from and 4"),
        (candidates([1, 2, 3, np.nan], [1, 2, 3, 4]), "not a finite number"),
        ([], "0 patients"),
    ],
    ids=["few", "nan", "none"],
)
def test_what_could_say_nothing_is_refused(found, message):
    with pytest.raises(PrivacyError, match=message):
        attack_advantage(found, seed=0)
