"""Estimates from what sites may say of their cases together, where no case's score may leave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segfed.evaluation.difference import (
    MINIMUM_PAIRED,
    low_with_failures,
    pooled_half,
    worst_spread,
)
from segfed.evaluation.statistics import Estimate, satterthwaite_half


@dataclass(frozen=True)
class SiteSummary:
    """One site's finite values of one quantity; the standard deviation is None for one case."""

    mean: float
    sd: float | None
    n: int
    n_nan: int = 0


def summarize_site(values: Sequence[float]) -> SiteSummary | None:
    """What a site may say of its cases' values; None without a finite one."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    sd = float(np.std(finite, ddof=1)) if len(finite) > 1 else None
    return SiteSummary(float(np.mean(finite)), sd, len(finite), len(values) - len(finite))


def difference_over_sites(summaries: Mapping[str, SiteSummary], *, level: float = 0.95) -> Estimate:
    """Mean of the sites' mean differences, with a t interval for new cases *of these sites*.

    The interval that means and standard deviations suffice for; see `difference_for_these_sites`
    for what a studentized bootstrap of the cases adds. It suits differences between two models, and
    not scores, whose long tail it does not know.

    Args:
        summaries: Of each site's differences.
        level: Coverage of the interval.

    References:
        Satterthwaite 1946, https://doi.org/10.2307/3002019.
    """
    n, n_nan = (sum(getattr(s, name) for s in summaries.values()) for name in ("n", "n_nan"))
    if not summaries:
        return Estimate(None, None, None, n, n_nan, reason="no site has a finite value")
    mean = float(np.mean([s.mean for s in summaries.values()]))
    sites = [worst_spread(s.n, s.sd) for s in summaries.values() if s.sd is not None]
    if len(sites) < len(summaries):
        return Estimate(mean, None, None, n, n_nan, reason="a site has only one case")
    if n < MINIMUM_PAIRED:
        reason = f"{n} cases are too few for an interval; at least {MINIMUM_PAIRED}"
        return Estimate(mean, None, None, n, n_nan, reason=reason)
    parts = [(site.sd**2 / site.n / len(sites) ** 2, site.n - 1) for site in sites]
    half = max(satterthwaite_half(parts, level=level), pooled_half(sites, level=level))
    low = low_with_failures(mean, sites, level=level)
    return Estimate(mean, mean - half, mean + half, n, n_nan, low_with_failures=low)
