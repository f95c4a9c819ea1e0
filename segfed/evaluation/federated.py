"""What a federation gains over its members alone, over pooling, and over a mere ensemble."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from segfed.evaluation.difference import difference_for_these_sites, pooled_half, site_spreads
from segfed.evaluation.paired import paired_differences
from segfed.evaluation.statistics import (
    MINIMUM_CASES,
    CaseMeans,
    SiteValues,
    case_parts,
    finite_mean,
    finite_values,
    mean_of_site_means,
    satterthwaite_half,
)

_WIDEST_SHARE = 1e3
"""Beyond this a share says nothing."""


@dataclass(frozen=True)
class Cell:
    """Mean score of one model on one site's test cases.

    ``mean`` is None without a finite score. ``is_ranked`` is False below the minimum number of
    cases: such a cell is shown with its n, and never called best or worst.
    """

    mean: float | None
    n: int
    n_nan: int
    is_ranked: bool


@dataclass(frozen=True)
class Gain:
    """How much better the global model does: in points, and relative to the rival's score."""

    points: float
    relative: float


@dataclass(frozen=True)
class GapShare:
    """Share of the gap from local to pooled training that federation closes.

    None, with a reason, where the gap's own interval includes 0: a share of nothing.
    """

    share: float | None
    ci_low: float | None
    ci_high: float | None
    reason: str = ""


Matrix = Mapping[str, Mapping[str, Cell]]
"""Cell of each train site (or model) and test site."""


def site_means(values: SiteValues, *, minimum_cases: int = MINIMUM_CASES) -> dict[str, Cell]:
    """Mean over the finite scores of each site, with the counts behind it."""
    finite = finite_values(values)
    return {
        site: Cell(
            mean=float(finite[site].mean()) if site in finite else None,
            n=len(finite.get(site, ())),
            n_nan=sum(math.isnan(value) for value in cases.values()),
            is_ranked=len(finite.get(site, ())) >= minimum_cases,
        )
        for site, cases in values.items()
    }


def train_test_matrix(
    values: Mapping[str, SiteValues], *, minimum_cases: int = MINIMUM_CASES
) -> dict[str, dict[str, Cell]]:
    """Mean of every model on every site's test cases.

    Args:
        values: For each model (a site's name for its local model; others such as ``global`` may
            stand beside them), the score of each case of each test site.
        minimum_cases: Fewest cases with which a cell is ranked.
    """
    return {
        model: site_means(tests, minimum_cases=minimum_cases) for model, tests in values.items()
    }


def local_performance(matrix: Matrix) -> float:
    """Mean over sites of each site's model on its own test cases; NaN without such a cell."""
    return finite_mean([_value(matrix, site, site) for site in matrix if site in matrix[site]])


def generalizability(matrix: Matrix, *, test_sites: Sequence[str] | None = None) -> float:
    """Mean over sites i of the mean over the *other* sites j of model i on test cases j.

    Args:
        matrix: Rows of local models; rows that are no test site are ignored.
        test_sites: The participating sites; by default every row that is also a column. Name them
            where the matrix has columns for external sites.

    Returns:
        A mean score; NaN below two sites.
    """
    sites = [site for site in matrix if site in matrix[site]] if test_sites is None else test_sites
    rows = [[_value(matrix, i, j) for j in sites if j != i] for i in sites]
    return finite_mean([finite_mean(row) for row in rows])


def gain(global_score: float, rival_score: float) -> Gain:
    """Gain of the global model over local performance or generalizability.

    References:
        Dayan et al. 2021 (EXAM), https://doi.org/10.1038/s41591-021-01506-3, reported the relative
        form: +16 % and +38 %.
    """
    points = global_score - rival_score
    return Gain(points=points, relative=points / rival_score if rival_score else math.nan)


def gap_share(
    local: SiteValues,
    pooled: SiteValues,
    federated: SiteValues,
    *,
    seed: int,
    n_bootstrap: int = 2000,
    level: float = 0.95,
) -> GapShare:
    """(federated - local) / (pooled - local), on means of site means, with its interval.

    The interval holds every share r for which the mean of (federated - local) - r (pooled - local)
    may be 0, by the wider of its t intervals on the sites' variances and on one for all sites.

    Raises:
        CaseError: If the three were not scored on the same cases.

    References:
        Fieller 1954, https://doi.org/10.1111/j.2517-6161.1954.tb00159.x.
    """
    gap, closed = _on_common_cases(
        paired_differences(local, pooled), paired_differences(local, federated)
    )
    estimate = difference_for_these_sites(gap, seed=seed, n_bootstrap=n_bootstrap, level=level)
    if estimate.mean is None or estimate.ci_low is None or estimate.ci_high is None:
        return GapShare(None, None, None, reason=f"the gap has no interval: {estimate.reason}")
    if estimate.ci_low <= 0 <= estimate.ci_high:
        return GapShare(
            None,
            None,
            None,
            reason=f"the gap from local to pooled, {estimate.mean:+.3f} "
            f"[{estimate.ci_low:+.3f}, {estimate.ci_high:+.3f}], may be 0",
        )
    share = mean_of_site_means(closed) / estimate.mean
    low, high = (_share_end(closed, gap, share, sign=sign, level=level) for sign in (-1, 1))
    if low is None or high is None:
        return GapShare(None, None, None, reason="the gap may be too small for any share of it")
    return GapShare(share=share, ci_low=low, ci_high=high)


def _share_end(
    closed: SiteValues, gap: SiteValues, share: float, *, sign: int, level: float
) -> float | None:
    """The furthest share on one side that is still compatible; None if there is no end."""
    sites = list(zip(finite_values(closed).values(), finite_values(gap).values(), strict=True))

    def excess(ratio: float) -> float:
        """How far 0 lies outside the interval of the difference for this share."""
        differences = [part - ratio * whole for part, whole in sites]
        mean = float(np.mean([site.mean() for site in differences]))
        by_site = satterthwaite_half(case_parts(differences), level=level)
        return abs(mean) - max(by_site, pooled_half(site_spreads(differences), level=level))

    step = 0.125
    while excess(share + sign * step) <= 0:
        step *= 2
        if step > _WIDEST_SHARE:
            return None
    if excess(share) >= 0:
        return share  # every case has the same share
    return float(brentq(excess, share, share + sign * step))


def worst_site(cells: Mapping[str, Cell], *, higher_is_better: bool = True) -> str | None:
    """Name of the ranked site with the worst mean; None if no site has enough cases."""
    ranked = {site: cell.mean for site, cell in cells.items() if cell.is_ranked}
    known = {site: mean for site, mean in ranked.items() if mean is not None}
    if not known:
        return None
    # Ties go to the first name, so that a report doesn't depend on the order of the sites.
    sign = 1 if higher_is_better else -1
    return min(sorted(known), key=lambda site: sign * known[site])


def _on_common_cases(first: SiteValues, second: SiteValues) -> tuple[CaseMeans, CaseMeans]:
    """Both sets of differences on the cases where both are finite."""
    both = {
        site: [
            case_id
            for case_id, value in cases.items()
            if math.isfinite(value) and math.isfinite(second[site][case_id])
        ]
        for site, cases in first.items()
    }
    return (
        {
            site: {case_id: first[site][case_id] for case_id in cases}
            for site, cases in both.items()
        },
        {
            site: {case_id: second[site][case_id] for case_id in cases}
            for site, cases in both.items()
        },
    )


def _value(matrix: Matrix, model: str, test_site: str) -> float:
    """Mean of a cell; NaN where it has none."""
    mean = matrix[model][test_site].mean
    return math.nan if mean is None else mean
