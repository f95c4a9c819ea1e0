"""How often the evaluation's intervals cover the truth, and how often its test errs.

    python benchmarks/interval_coverage.py [--repetitions N] [--part scores|differences|…]

Scores are drawn with a long lower tail, as Dice has: nearly all cases good, one in eight a failure.
Differences between two models are drawn in three shapes: normal; with failures of either model;
with failures of the new one alone, which are rare and large. Sites have 8 to 30 cases. Wanted are
93 to 97 % for the intervals and at most 2.5 % for the non-inferiority test where the true loss
equals the margin; beside it stands how often the test passes where there is no loss at all, and how
often both would be if the lower end of the interval alone decided.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from segfed.evaluation import (
    MINIMUM_SCORED,
    Estimate,
    Timing,
    difference_for_these_sites,
    gap_share,
    judge_non_inferiority,
    new_models,
    new_sites,
    these_sites,
    time_ratio,
)

CASES = (8, 20, 12, 30)
FAILURE_RATE = 0.12
CASE_MEAN = FAILURE_RATE * 0.25 + (1 - FAILURE_RATE) * 0.88
MARGIN = 0.02
N_BOOTSTRAP = 500

Draw = Callable[[int, np.random.Generator], np.ndarray]
Values = dict[str, dict[str, float]]


def draw_scores(n: int, rng: np.random.Generator) -> np.ndarray:
    """Dice-like scores of n cases, with mean 0: 88 % near 0.88, the others uniform below 0.5."""
    failed = rng.random(n) < FAILURE_RATE
    scores = np.where(failed, rng.uniform(0, 0.5, n), rng.normal(0.88, 0.04, n))
    return scores - CASE_MEAN


def draw_normal(n: int, rng: np.random.Generator) -> np.ndarray:
    """Differences of two models that never fail."""
    return rng.normal(0, 0.05, n)


def draw_either(n: int, rng: np.random.Generator) -> np.ndarray:
    """Differences where in 8 % of cases one of the models fails, either one as often."""
    failed = rng.random(n) < 0.08
    return np.where(
        failed, rng.choice([-1, 1], n) * rng.uniform(0.2, 0.6, n), rng.normal(0, 0.03, n)
    )


def draw_one_sided(n: int, rng: np.random.Generator) -> np.ndarray:
    """Differences with mean 0 where the new model alone fails, in 6 % of cases."""
    failed = rng.random(n) < 0.06
    return np.where(failed, -rng.uniform(0.1, 0.5, n), rng.normal(0, 0.03, n)) + 0.06 * 0.3


SHAPES = {"normal": draw_normal, "either fails": draw_either, "new one fails": draw_one_sided}


def draw_sites(
    draw: Draw, means: Sequence[float], rng: np.random.Generator, counts: Sequence[int] = CASES
) -> Values:
    """Values of the cases of sites with given true means."""
    return {
        f"site{i}": {
            f"case{j}": float(mean + value)
            for j, value in enumerate(draw(counts[i % len(counts)], rng))
        }
        for i, mean in enumerate(means)
    }


def covers(estimate: Estimate, truth: float) -> bool:
    """Whether an interval is there and holds the truth."""
    if estimate.ci_low is None or estimate.ci_high is None:
        return False
    return estimate.ci_low <= truth <= estimate.ci_high


def with_seed_effects(values: Values, rng: np.random.Generator) -> dict[int, Values]:
    """The same cases scored by models of five training seeds."""
    return {
        seed: {
            site: {case: value + effect for case, value in cases.items()}
            for site, cases in values.items()
        }
        for seed, effect in enumerate(rng.normal(0, 0.02, 5))
    }


def measure_scores(n_sites: int, site_sd: float, repetitions: int) -> dict[str, float]:
    """Coverage of the intervals of scores."""
    rng, hits = np.random.default_rng(n_sites), Counter[str]()
    for repetition in range(repetitions):
        means = rng.normal(0, site_sd, n_sites)
        values = draw_sites(draw_scores, means, rng)
        found = these_sites(values, seed=repetition, n_bootstrap=N_BOOTSTRAP)
        hits["these sites"] += covers(found, float(means.mean()))
        hits["new sites"] += covers(new_sites(values), 0.0)
    return {name: hits[name] / repetitions for name in ("these sites", "new sites")}


def measure_differences(
    draw: Draw, counts: Sequence[int], n_sites: int, repetitions: int
) -> dict[str, float]:
    """Coverage for differences, and how often a loss of the whole margin is called none."""
    rng, hits = np.random.default_rng(n_sites), Counter[str]()
    for repetition in range(repetitions):
        loss = draw_sites(draw, [-MARGIN] * n_sites, rng, counts)
        for name, found in (
            (
                "these sites",
                difference_for_these_sites(loss, seed=repetition, n_bootstrap=N_BOOTSTRAP),
            ),
            ("new models", new_models(with_seed_effects(loss, rng))),
        ):
            hits[name] += covers(found, -MARGIN)
            hits[f"{name} errs"] += passes(found)
            hits[f"{name} errs by interval"] += found.ci_low is not None and found.ci_low > -MARGIN
            # The interval moves with the values: the same studies, without the loss.
            hits[f"{name} passes"] += passes(moved(found, MARGIN))
            hits[f"{name} passes by interval"] += (
                found.ci_low is not None and found.ci_low > -2 * MARGIN
            )
    return {name: count / repetitions for name, count in hits.items()}


def moved(estimate: Estimate, by: float) -> Estimate:
    """The estimate from values that all lie higher by a step."""
    return replace(
        estimate,
        **{
            name: end + by
            for name in ("mean", "ci_low", "ci_high", "low_with_failures")
            if (end := getattr(estimate, name)) is not None
        },
    )


def passes(estimate: Estimate) -> bool:
    """Whether the loss is judged to be within the margin."""
    return judge_non_inferiority({"tumor": estimate}, margin=MARGIN).is_non_inferior


def measure_few(counts: Sequence[int], repetitions: int) -> float:
    """Coverage of the interval of a score that would be given if it were not refused."""
    rng, hits = np.random.default_rng(0), 0
    for repetition in range(repetitions):
        values = draw_sites(draw_scores, [0.0] * len(counts), rng, counts)
        found = these_sites(values, seed=repetition, n_bootstrap=N_BOOTSTRAP, minimum_cases=2)
        hits += covers(found, 0.0)
    return hits / repetitions


def measure_share(n_sites: int, repetitions: int) -> tuple[float, float]:
    """Coverage of the share of the gap, where it is given, and how often it is."""
    rng, hits, given = np.random.default_rng(n_sites), 0, 0
    for repetition in range(repetitions):
        local = draw_sites(draw_scores, [0.0] * n_sites, rng)
        pooled, federated = (
            {
                site: {case: value + float(rng.normal(gain, 0.06)) for case, value in of.items()}
                for site, of in local.items()
            }
            for gain in (0.08, 0.06)
        )
        share = gap_share(local, pooled, federated, seed=repetition, n_bootstrap=N_BOOTSTRAP)
        if share.ci_low is not None and share.ci_high is not None:
            given += 1
            hits += share.ci_low <= 0.06 / 0.08 <= share.ci_high
    return hits / max(1, given), given / repetitions


def measure_time(n_readers: int, n_cases: int, repetitions: int) -> float:
    """Coverage of the ratio of times in a crossover of one reader a case."""
    hits = 0
    for repetition in range(repetitions):
        rng = np.random.default_rng(repetition)
        skill, timings = rng.normal(0, 0.4, n_readers), []
        for case in range(n_cases):
            reader, difficulty = case % n_readers, 6.0 + rng.normal(0, 0.5)
            for period, arm in enumerate(rng.permutation(["manual", "assisted"]), start=1):
                seconds = np.exp(
                    difficulty
                    + skill[reader]
                    + np.log(0.6) * (arm == "assisted")
                    - 0.2 * (period == 2)
                    + rng.normal(0, 0.3)
                )
                timings.append(
                    Timing("north", f"r{reader}", f"c{case}", str(arm), period, float(seconds))
                )
        found = time_ratio(timings)
        if found.ci_low is not None and found.ci_high is not None:
            hits += found.ci_low <= 0.6 <= found.ci_high
    return hits / repetitions


def show(title: str, rates: dict[str, float]) -> None:
    """One line."""
    print(f"{title}: {', '.join(f'{n} {rate:.1%}' for n, rate in rates.items())}", flush=True)


def show_scores(n: int) -> None:
    """Coverage of scores by number of sites and difference between them."""
    for n_sites in (4, 6, 20):
        for site_sd in (0.0, 0.05):
            title = f"scores, {n_sites} sites, SD between sites {site_sd:g}"
            show(title, measure_scores(n_sites, site_sd, n))


def show_differences(n: int) -> None:
    """Coverage of differences, and the test's errors and power, by number of sites and shape."""
    for n_sites in (4, 6, 20):
        for name, draw in SHAPES.items():
            title = f"differences ({name}), {n_sites} sites"
            show(title, measure_differences(draw, CASES, n_sites, n))
    for name, draw in SHAPES.items():
        show(f"differences ({name}), one site of 8", measure_differences(draw, (8,), 1, n))
        show(f"differences ({name}), four of 12", measure_differences(draw, (12,), 4, n))


def show_few(n: int) -> None:
    """What intervals of scores from few cases would cover."""
    for counts in ((8,), (12,), (20,), (5,) * 4, (24,), (8,) * 3, (40,)):
        print(
            f"scores, sites of {', '.join(map(str, counts))}: {measure_few(counts, n):.1%}"
            f"{'' if sum(counts) >= MINIMUM_SCORED else ' (refused)'}",
            flush=True,
        )


def show_share(n: int) -> None:
    """Coverage of the share of the gap."""
    for n_sites in (4, 20):
        rate, given = measure_share(n_sites, n)
        print(f"share of the gap, {n_sites} sites: {rate:.1%}, given in {given:.1%}", flush=True)


def show_time(n: int) -> None:
    """Coverage of the time ratio; half the repetitions, because each is a fit."""
    for n_readers, n_cases in ((2, 12), (4, 24), (6, 60)):
        rate = measure_time(n_readers, n_cases, n // 2)
        print(f"time ratio, {n_readers} readers, {n_cases} cases: {rate:.1%}", flush=True)


PARTS = {
    "scores": show_scores,
    "differences": show_differences,
    "few": show_few,
    "share": show_share,
    "time": show_time,
}


def main() -> None:
    """Print one line for each kind of value, number of sites and difference between sites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    chosen = parser.parse_args()
    for part in chosen.part:
        PARTS[part](chosen.repetitions)


if __name__ == "__main__":
    main()
