"""The ratio of times, against paired differences worked out by hand and against simulations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from segfed.evaluation.timing import FIXED, MIXED, UNPAIRED, Timing, time_ratio


def timing(reader, case, arm, seconds, *, period=1):
    return Timing("north", reader, case, arm, period, seconds)


def crossover(rng, *, n_readers=4, n_cases=24, ratio=0.6, period_effect=0.0):
    """Each case is read by one reader in both arms; half of them by hand first."""
    skill = rng.normal(0, 0.4, n_readers)
    timings = []
    for case in range(n_cases):
        reader = case % n_readers
        difficulty = 6.0 + rng.normal(0, 0.5)
        arms = ("manual", "assisted") if case // n_readers % 2 else ("assisted", "manual")
        for period, arm in enumerate(arms, start=1):
            log_seconds = difficulty + skill[reader] + rng.normal(0, 0.25)
            log_seconds += np.log(ratio) * (arm == "assisted") + period_effect * (period == 2)
            timings.append(
                timing(f"r{reader}", f"c{case}", arm, float(np.exp(log_seconds)), period=period)
            )
    return timings


def test_a_balanced_crossover_gives_the_paired_comparison():
    timings = crossover(np.random.default_rng(1))
    seconds = {(t.case, t.arm): t for t in timings}
    # Two groups of cases, by which arm came first: the mean of their means is free of the period.
    logs = {
        order: [
            np.log(seconds[case, "assisted"].seconds / seconds[case, "manual"].seconds)
            for case in {t.case for t in timings}
            if seconds[case, "manual"].period == order
        ]
        for order in (1, 2)
    }
    expected = np.exp(np.mean([np.mean(of) for of in logs.values()]))

    found = time_ratio(timings)

    assert found.method == MIXED
    assert found.accounts_for_period
    assert (found.n_labels, found.n_cases, found.n_readers) == (48, 24, 4)
    assert found.ratio == pytest.approx(expected, rel=1e-3)  # the iterative fit's own tolerance
    assert found.ci_low < 0.6 < found.ci_high


def test_two_readers_and_pairs_give_the_t_interval_of_their_differences():
    # Logs of assisted over manual: -1, -0.5, -0.7, -0.2 in one period each: no period to tell.
    differences = [-1.0, -0.5, -0.7, -0.2]
    timings = [
        timing(f"r{i % 2}", f"c{i}", arm, float(np.exp(6 + i + shift)))
        for i, difference in enumerate(differences)
        for arm, shift in (("manual", 0.0), ("assisted", difference))
    ]
    mean, half = np.mean(differences), stats.t.ppf(0.975, 3) * stats.sem(differences)

    found = time_ratio(timings)

    assert found.method == FIXED
    assert not found.accounts_for_period
    expected = np.exp([mean, mean - half, mean + half])
    assert [found.ratio, found.ci_low, found.ci_high] == pytest.approx(expected)


def test_a_period_that_makes_readers_faster_does_not_pass_for_the_arm():
    # Unbalanced: three quarters of the cases are drawn by hand first.
    rng = np.random.default_rng(0)
    timings = []
    for case, reader in itertools.product(range(24), range(3)):
        arms = ("assisted", "manual") if case % 4 == 0 else ("manual", "assisted")
        for period, arm in enumerate(arms, start=1):
            log = 6 + rng.normal(0, 0.02) - 1.0 * (period == 2)  # the period alone
            timings.append(timing(f"r{reader}", f"c{case}", arm, float(np.exp(log)), period=period))

    assert time_ratio(timings).ratio == pytest.approx(1, abs=0.02)


def test_a_slow_reader_of_one_arm_s_cases_does_not_pass_for_the_arm():
    # Parallel arms, the slow reader draws by hand three times as often.
    timings = [
        timing(reader, f"{reader}{arm}{i}", arm, base * (0.5 if arm == "assisted" else 1))
        for reader, base, counts in (("slow", 900, (6, 2)), ("fast", 100, (2, 6)))
        for arm, n in zip(("manual", "assisted"), counts, strict=True)
        for i in range(n)
    ]

    found = time_ratio(timings)

    assert found.method == UNPAIRED
    assert found.ratio == pytest.approx(0.5)


def test_readers_of_one_arm_each_leave_no_interval():
    timings = [timing("a", f"m{i}", "manual", 100) for i in range(5)]
    timings += [timing("b", f"a{i}", "assisted", 50) for i in range(5)]

    found = time_ratio(timings)

    assert found.ratio == pytest.approx(0.5)
    assert found.ci_low is found.ci_high is None
    assert "readers cannot be told from arms" in found.reason


@pytest.mark.parametrize(("arms", "reason"), [((), "no times"), (("manual",), "one arm only")])
def test_without_both_arms_there_is_no_ratio(arms, reason):
    found = time_ratio([timing("a", "c", arm, 100) for arm in arms])

    assert found.ratio is None
    assert reason in found.reason


def test_one_pair_has_a_ratio_and_no_interval():
    found = time_ratio([timing("a", "c", "manual", 100), timing("a", "c", "assisted", 50)])

    assert (found.ratio, found.ci_low) == (pytest.approx(0.5), None)
    assert "too few" in found.reason


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    studies = 60
    hits = 0
    for seed in range(studies):
        found = time_ratio(crossover(np.random.default_rng(seed), n_cases=12, period_effect=-0.2))
        hits += found.ci_low <= 0.6 <= found.ci_high

    # Of 60 studies at 95 %, 52 or fewer would be hit once in 100 times.
    assert hits >= stats.binom.ppf(0.01, studies, 0.95)
