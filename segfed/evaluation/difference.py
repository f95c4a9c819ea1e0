"""Differences between two models on the same cases: intervals, and what unseen failures allow.

A difference is mostly small, and now and then one model fails where the other does not. An interval
from few cases may hold too few of these failures to know how far apart the models are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from segfed.evaluation.statistics import (
    MINIMUM_SEEDS,
    Estimate,
    Floats,
    SiteValues,
    average_models,
    case_parts,
    estimate_of,
    finite_values,
    mean_of_site_means,
    satterthwaite_half,
    seed_spread,
    these_sites,
)

MINIMUM_PAIRED = 8
"""Fewest cases behind an interval of a difference between two models on the same cases."""

ADDED_FAILURES = 2
"""Cases as bad as the worst one that are added to test a verdict, as Agresti and Coull add two
failures (and two successes) to a proportion."""


@dataclass(frozen=True)
class SiteSpread:
    """Number of a site's cases, their standard deviation, and how far below the mean the worst is.

    ``worst`` is widened by √(n / (n - 1)), because a far case draws the mean towards itself.
    """

    n: int
    sd: float
    worst: float


def difference_for_these_sites(
    values: SiteValues, *, seed: int, n_bootstrap: int = 2000, level: float = 0.95
) -> Estimate:
    """Mean of the sites' mean differences, with an interval for new cases *of these sites*.

    The interval of `these_sites`, or where that is wider the t interval on one variance for the
    cases of all sites: a small site of which no case failed would else count as one that never
    fails.

    Args:
        values: Difference of each case of each site; average the seeds first.
        seed: Seed of the resampling.
        n_bootstrap: Number of resamples.
        level: Coverage of the interval.
    """
    found = these_sites(
        values, seed=seed, n_bootstrap=n_bootstrap, level=level, minimum_cases=MINIMUM_PAIRED
    )
    if found.mean is None or found.ci_low is None or found.ci_high is None:
        return found
    sites = site_spreads(finite_values(values).values())
    half = pooled_half(sites, level=level)
    return replace(
        found,
        ci_low=min(found.ci_low, found.mean - half),
        ci_high=max(found.ci_high, found.mean + half),
        low_with_failures=low_with_failures(found.mean, sites, level=level),
    )


def new_models(values_by_seed: Mapping[int, SiteValues], *, level: float = 0.95) -> Estimate:
    """Mean difference, with an interval for *newly trained models* on new cases.

    ``these_sites`` speaks of the very models that were trained. A claim about the label strategy
    must also bear the chance of training: the variance between seeds is added to that between
    cases, with Satterthwaite's degrees of freedom.

    Args:
        values_by_seed: Difference of each case of each site, for each training seed.
        level: Coverage of the interval.

    Returns:
        The estimate; without an interval below ``MINIMUM_SEEDS`` seeds or ``MINIMUM_PAIRED``
        cases, or if a site has a single one.

    References:
        Satterthwaite 1946, https://doi.org/10.2307/3002019.
    """
    averaged = average_models(values_by_seed)
    sites = list(finite_values(averaged).values())
    if not sites:
        return estimate_of(averaged, None, reason="no case has a finite score")
    mean = mean_of_site_means(averaged)
    n_seeds = len(values_by_seed)
    if n_seeds < MINIMUM_SEEDS:
        seeds = "1 seed is" if n_seeds == 1 else f"{n_seeds} seeds are"
        reason = f"{seeds} too few to speak of new models; at least {MINIMUM_SEEDS}"
        return estimate_of(averaged, mean, reason=reason)
    if min(map(len, sites)) < 2:
        return estimate_of(averaged, mean, reason="a site has only one case with a finite score")
    if (n_cases := sum(map(len, sites))) < MINIMUM_PAIRED:
        reason = f"{n_cases} cases are too few for an interval; at least {MINIMUM_PAIRED}"
        return estimate_of(averaged, mean, reason=reason)
    between_seeds = (seed_spread(values_by_seed) ** 2 / n_seeds, n_seeds - 1)
    half = satterthwaite_half([between_seeds, *case_parts(sites)], level=level)
    low = low_with_failures(mean, site_spreads(sites), level=level, other=[between_seeds])
    found = estimate_of(averaged, mean, interval=(mean - half, mean + half))
    return replace(found, low_with_failures=low)


def pooled_half(sites: Sequence[SiteSpread], *, level: float) -> float:
    """Half the t interval of the mean of site means if the cases of all sites vary alike."""
    freedom = sum(site.n - 1 for site in sites)
    variance = sum((site.n - 1) * site.sd**2 for site in sites) / freedom
    return satterthwaite_half([(variance * _inverse_cases(sites), freedom)], level=level)


def low_with_failures(
    mean: float,
    sites: Sequence[SiteSpread],
    *,
    level: float,
    other: Sequence[tuple[float, int]] = (),
) -> float:
    """Lower end of the interval if ``ADDED_FAILURES`` more cases were as bad as the worst one.

    The t interval on one variance for the cases of all sites, the added ones among them.

    Args:
        mean: Mean of the sites' mean differences.
        sites: At least two cases each.
        level: Coverage of the interval.
        other: Further variances of the mean, with their degrees of freedom.

    References:
        Agresti and Coull 1998, https://doi.org/10.2307/2685469, for proportions.
    """
    worst = -max(site.worst for site in sites)
    n_cases = sum(site.n for site in sites)
    inverse = _inverse_cases(sites)
    # Deviations from a site's own mean are too small by n - 1 in n.
    squares = sum(site.n * site.sd**2 for site in sites) + ADDED_FAILURES * worst**2
    total = n_cases + ADDED_FAILURES
    shift = ADDED_FAILURES * worst
    freedom = total - len(sites)
    variance = (squares - shift**2 / total) / freedom * inverse
    half = satterthwaite_half([(variance, freedom), *other], level=level)
    return mean + shift / (1 / inverse + ADDED_FAILURES) - half


def site_spreads(sites: Iterable[Floats]) -> list[SiteSpread]:
    """Of sites with at least two cases each, whose values are known."""
    return [
        SiteSpread(
            n=len(site),
            sd=float(site.std(ddof=1)),
            worst=float(site.mean() - site.min()) * math.sqrt(len(site) / (len(site) - 1)),
        )
        for site in sites
    ]


def worst_spread(n: int, sd: float) -> SiteSpread:
    """Of a site that tells no case: the worst one is as far out as n values with this sd allow.

    References:
        Samuelson 1968, https://doi.org/10.1080/01621459.1968.10480944.
    """
    return SiteSpread(n=n, sd=sd, worst=sd * math.sqrt(n - 1))


def _inverse_cases(sites: Sequence[SiteSpread]) -> float:
    """Variance of the mean of site means in units of a case's: 1/n where sites are equal."""
    return sum(1 / site.n for site in sites) / len(sites) ** 2
