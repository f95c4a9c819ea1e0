"""Means over cases and sites, and the intervals that can be defended.

Every function takes *site values*: for each site, the score of each of its cases. NaN and infinite
scores are left out of a mean, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segfed.errors import CaseError

SiteValues = Mapping[str, Mapping[str, float]]
CaseMeans = dict[str, dict[str, float]]
Floats = NDArray[np.float64]

MINIMUM_SITES = 5
"""Fewest sites from which an interval for new sites is given."""

MINIMUM_SEEDS = 5
"""Fewest seeds from which a claim about a label strategy is given."""

MINIMUM_CASES = 5
"""Fewest cases with which a site is ranked."""


MINIMUM_SCORED = 24
"""Fewest cases behind an interval of a score: where one in eight fails, fewer often hold none that
did, and their interval covers the truth in nine of ten studies or less."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval. None where there is nothing to average or no honest interval.

    ``n`` counts the cases that the mean covers, ``n_nan`` those left out because their score is
    undefined, ``n_infinite`` those left out because it is infinite. ``reason`` says why the
    interval is missing. ``low_with_failures`` is the lower end if a few more cases were as bad as
    the worst one, for a difference that has an interval.
    """

    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_nan: int
    n_infinite: int = 0
    reason: str = ""
    low_with_failures: float | None = None


def these_sites(
    values: SiteValues,
    *,
    seed: int,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    minimum_cases: int = MINIMUM_SCORED,
) -> Estimate:
    """Mean of the sites' means, with an interval for new cases *of these sites*.

    Cases are resampled within each site, sites are not. Each end is the further one of a
    studentized bootstrap interval (bootstrap-t) and of the t interval on the same variances: the
    first allows for the long lower tail of Dice, at which the second errs, and the second for the
    few far cases on both sides that differences have, at which the first covers 85 to 90 %.
    ``benchmarks/interval_coverage.py`` measures what both together do.

    Args:
        values: Score of each case of each site; average the seeds first (``average_models``).
        seed: Seed of the resampling.
        n_bootstrap: Number of resamples.
        level: Coverage of the interval.
        minimum_cases: Fewest cases, over all sites, for an interval.

    Returns:
        The estimate; without an interval below the fewest cases, if a site has a single one,
        because nothing then tells how its cases vary, or if resamples vary too little to be
        studentized. A site without any finite score is no part of the mean.

    References:
        Davison and Hinkley 1997, *Bootstrap Methods and their Application*, sections 2.4 and 3.2;
        Satterthwaite 1946, https://doi.org/10.2307/3002019.
    """
    sites = finite_values(values)
    if not sites:
        return estimate_of(values, None, reason="no case has a finite score")
    mean = mean_of_site_means(values)
    single = [name for name, site in sites.items() if len(site) < 2]
    if single:
        reason = f"only one case with a finite score at {', '.join(single)}"
        return estimate_of(values, mean, reason=reason)
    n_cases = sum(map(len, sites.values()))
    if n_cases < minimum_cases:
        reason = f"{n_cases} cases are too few for an interval; at least {minimum_cases}"
        return estimate_of(values, mean, reason=reason)
    error = _standard_error(sites.values())
    if error == 0:
        return estimate_of(values, mean, interval=(mean, mean))
    rng = np.random.default_rng(seed)
    drawn = [
        site[rng.integers(len(site), size=(n_bootstrap, len(site)))] for site in sites.values()
    ]
    deviations = np.mean([site.mean(axis=-1) for site in drawn], axis=0) - mean
    with np.errstate(divide="ignore", invalid="ignore"):
        studentized = deviations / _standard_error(drawn)
    low, high = np.quantile(studentized, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    if not (np.isfinite(low) and np.isfinite(high)):
        reason = "too few cases with different scores for an interval that keeps its level"
        return estimate_of(values, mean, reason=reason)
    half = satterthwaite_half(case_parts(sites.values()), level=level)
    interval = (mean - max(high * error, half), mean + max(-low * error, half))
    return estimate_of(values, mean, interval=interval)


def new_sites(values: SiteValues, *, level: float = 0.95) -> Estimate:
    """Mean of the sites' means, with an interval for *new sites* like these.

    A t interval on the site means with G - 1 degrees of freedom. It covers only if these sites can
    be taken for a random draw from the sites meant.

    Returns:
        The estimate; without an interval below ``MINIMUM_SITES`` sites.
    """
    site_means = [float(site.mean()) for site in finite_values(values).values()]
    n_sites = len(site_means)
    if n_sites == 0:
        return estimate_of(values, None, reason="no case has a finite score")
    mean = float(np.mean(site_means))
    if n_sites < MINIMUM_SITES:
        reason = f"{n_sites} sites are too few to speak of new ones; at least {MINIMUM_SITES}"
        return estimate_of(values, mean, reason=reason)
    half = t_half(site_means, level=level)
    return estimate_of(values, mean, interval=(mean - half, mean + half))


def average_models(runs: Mapping[int, SiteValues] | Mapping[str, SiteValues]) -> CaseMeans:
    """Mean score of each case over several models: the seeds of one, or the sites' local models.

    A case that is undefined or infinite for some models is averaged over the others; one that is
    so for all keeps that value.

    Raises:
        CaseError: If the models were not scored on the same cases; the message names some.
    """
    models = list(runs.values())
    for other in models[1:]:
        check_same_cases(models[0], other)
    return {
        site: {
            case_id: finite_mean([model[site][case_id] for model in models]) for case_id in cases
        }
        for site, cases in (models[0] if models else {}).items()
    }


def check_same_cases(first: SiteValues, second: SiteValues) -> None:
    """Refuse to compare or average models that were scored on different cases.

    Raises:
        CaseError: If the cases of the two differ; the message names some.
    """
    first_cases = {(site, case_id) for site, cases in first.items() for case_id in cases}
    second_cases = {(site, case_id) for site, cases in second.items() for case_id in cases}
    if first_cases != second_cases:
        unpaired = sorted(f"{site}/{case_id}" for site, case_id in first_cases ^ second_cases)
        raise CaseError(
            f"Found {len(unpaired)} case(s) that only one of two compared models was scored on: "
            f"{', '.join(unpaired[:5])}; expected the same cases for both. Score them with both "
            "models."
        )


def seed_spread(values_by_seed: Mapping[int, SiteValues]) -> float:
    """Standard deviation between seeds of the mean of site means; NaN below two seeds."""
    means = [mean_of_site_means(values) for values in values_by_seed.values()]
    return float(np.std(means, ddof=1)) if len(means) > 1 else math.nan


def mean_of_site_means(values: SiteValues) -> float:
    """Mean of the sites' means over finite scores; NaN if there is none."""
    means = [float(site.mean()) for site in finite_values(values).values()]
    return float(np.mean(means)) if means else math.nan


def finite_values(values: SiteValues) -> dict[str, Floats]:
    """Finite scores of each site that has any, by name, in the order of the case names."""
    # Sorted, so that an interval doesn't depend on the order in which the cases were read.
    arrays = {
        site: np.array([values[site][case_id] for case_id in sorted(values[site])], dtype=float)
        for site in sorted(values)
    }
    finite = {site: array[np.isfinite(array)] for site, array in arrays.items()}
    return {site: array for site, array in finite.items() if len(array)}


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the finite values; without any, infinity if one is infinite, else NaN."""
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        return float(np.mean(finite))
    infinite = [value for value in values if math.isinf(value)]
    return infinite[0] if infinite else math.nan


def _standard_error(sites: Iterable[Floats]) -> Any:
    """Standard error of the mean of site means, over the last axis of each site's scores."""
    variances = [site.var(axis=-1, ddof=1) / site.shape[-1] for site in sites]
    return np.sqrt(sum(variances)) / len(variances)


def case_parts(sites: Iterable[Floats]) -> list[tuple[float, int]]:
    """What each site's cases add to the variance of the overall mean, with degrees of freedom."""
    arrays = list(sites)
    return [
        (float(site.var(ddof=1)) / len(site) / len(arrays) ** 2, len(site) - 1) for site in arrays
    ]


def t_half(values: Sequence[float] | Floats, *, level: float = 0.95) -> float:
    """Half the t interval of the mean of two values or more."""
    return float(stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values))


def satterthwaite_half(parts: Sequence[tuple[float, int]], *, level: float) -> float:
    """Half the t interval of a mean whose variance is a sum of parts; 0 where all of them are."""
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)


def estimate_of(
    values: SiteValues,
    mean: float | None,
    *,
    interval: tuple[float, float] | None = None,
    reason: str = "",
) -> Estimate:
    """An estimate with the counts of cases that its mean covers and leaves out."""
    scores: Sequence[float] = [value for cases in values.values() for value in cases.values()]
    n_nan = sum(math.isnan(value) for value in scores)
    n_infinite = sum(math.isinf(value) for value in scores)
    low, high = map(float, interval) if interval is not None else (None, None)
    return Estimate(
        mean=mean,
        ci_low=low,
        ci_high=high,
        n=len(scores) - n_nan - n_infinite,
        n_nan=n_nan,
        n_infinite=n_infinite,
        reason=reason,
    )
