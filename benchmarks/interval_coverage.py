"""How often the evaluation's intervals cover the truth, and how often its test errs.

    python benchmarks/interval_coverage.py [--repetitions N]

Scores are drawn with a long lower tail, as Dice has: nearly all cases good, a few failures. Sites
have 8 to 30 cases. Wanted are 93 to 97 % for the intervals and 2.5 % for the non-inferiority
test where the true loss equals the margin.
"""

from __future__ import annotations

import argparse

import numpy as np

from segfed.evaluation import (
    Estimate,
    judge_non_inferiority,
    new_models,
    new_sites,
    these_sites,
)

CASES = (8, 20, 12, 30)
FAILURE_RATE = 0.12
CASE_MEAN = FAILURE_RATE * 0.25 + (1 - FAILURE_RATE) * 0.88
MARGIN = 0.02


def draw_case_scores(n: int, rng: np.random.Generator) -> np.ndarray:
    """Dice-like scores of n cases, with mean 0: 88 % near 0.88, the others uniform below 0.5."""
    failed = rng.random(n) < FAILURE_RATE
    scores = np.where(failed, rng.uniform(0, 0.5, n), rng.normal(0.88, 0.04, n))
    return scores - CASE_MEAN


def draw_sites(means: np.ndarray, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Case scores of sites with given true means."""
    return {
        f"site{i}": {
            f"case{j}": float(mean + score)
            for j, score in enumerate(draw_case_scores(CASES[i % len(CASES)], rng))
        }
        for i, mean in enumerate(means)
    }


def covers(estimate: Estimate, truth: float) -> bool:
    """Whether an interval is there and holds the truth."""
    if estimate.ci_low is None or estimate.ci_high is None:
        return False
    return estimate.ci_low <= truth <= estimate.ci_high


def measure(n_sites: int, site_sd: float, repetitions: int) -> dict[str, float]:
    """Coverage and error rate for one number of sites and one difference between them."""
    rng = np.random.default_rng(n_sites)
    hits = dict.fromkeys(("these sites", "new sites", "new models", "non-inferior by error"), 0)
    for repetition in range(repetitions):
        means = rng.normal(0, site_sd, n_sites)
        values = draw_sites(means, rng)
        hits["these sites"] += covers(these_sites(values, seed=repetition), float(means.mean()))
        hits["new sites"] += covers(new_sites(values), 0.0)
        seed_effects = rng.normal(0, 0.02, 5)
        by_seed = {
            seed: {
                site: {case: value + effect for case, value in cases.items()}
                for site, cases in values.items()
            }
            for seed, effect in enumerate(seed_effects)
        }
        hits["new models"] += covers(new_models(by_seed), float(means.mean()))
        # Paired differences between two trained models: symmetric, truly worse by the margin.
        loss = {
            site: {case: float(rng.normal(-MARGIN, 0.05)) for case in cases}
            for site, cases in values.items()
        }
        verdict = judge_non_inferiority(
            {"tumor": these_sites(loss, seed=repetition)}, margin=MARGIN
        )
        hits["non-inferior by error"] += verdict.is_non_inferior
    return {name: count / repetitions for name, count in hits.items()}


def main() -> None:
    """Print one line for each number of sites and each difference between sites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args().repetitions
    for n_sites in (4, 6, 20):
        for site_sd in (0.0, 0.05):
            rates = measure(n_sites, site_sd, repetitions)
            shown = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items())
            print(f"{n_sites} sites, SD between sites {site_sd:g}: {shown}", flush=True)


if __name__ == "__main__":
    main()
