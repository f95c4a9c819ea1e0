"""Estimates from what sites may say of their cases together, where no case's score may leave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segfed.evaluation.statistics import MINIMUM_PAIRED, Estimate, satterthwaite_half


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


def difference_over_sites(
    summaries: Mapping[str, SiteSummary],
    *,
    level: float = 0.95,
    minimum_cases: int = MINIMUM_PAIRED,
) -> Estimate:
    """Mean of the sites' mean differences, with a t interval for new cases *of these sites*.

    The interval that means and standard deviations suffice for; see `these_sites` for what a
    studentized bootstrap of the cases adds. It suits differences between two models, and not
    scores, whose long tail it does not know.

    Args:
        summaries: Of each site's differences.
        level: Coverage of the interval.
        minimum_cases: Fewest cases, over all sites, for an interval.

    References:
        Satterthwaite 1946, https://doi.org/10.2307/3002019.
    """
    n, n_nan = (sum(getattr(s, name) for s in summaries.values()) for name in ("n", "n_nan"))
    if not summaries:
        return Estimate(None, None, None, n, n_nan, reason="no site has a finite value")
    mean = float(np.mean([s.mean for s in summaries.values()]))
    parts = [
        (s.sd**2 / s.n / len(summaries) ** 2, s.n - 1)
        for s in summaries.values()
        if s.sd is not None
    ]
    if len(parts) < len(summaries):
        return Estimate(mean, None, None, n, n_nan, reason="a site has only one case")
    if n < minimum_cases:
        reason = f"{n} cases are too few for an interval; at least {minimum_cases}"
        return Estimate(mean, None, None, n, n_nan, reason=reason)
    half = satterthwaite_half(parts, level=level)
    return Estimate(mean, mean - half, mean + half, n, n_nan)
