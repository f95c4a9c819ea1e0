"""What each site adds to a federation, from scores of the models that groups of sites make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segfed.errors import CaseError
from segfed.evaluation.statistics import SiteValues

Group = frozenset[str]
Floats = NDArray[np.float64]

_LEVEL = 0.95


@dataclass(frozen=True)
class Share:
    """One figure of a site with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Contribution:
    """What a site adds, in points of the score."""

    own: Share
    """Left out: what the site's own held-out cases lose without it."""

    others: Share
    """Left out: what the held-out cases of the other sites lose, as the mean of sites."""

    shapley: Share
    """Its fair part of all that the sites gain together over no training, on the mean of sites: the
    mean of what it adds to a group, over all orders in which the sites could have come."""


def all_groups(sites: Collection[str]) -> tuple[Group, ...]:
    """Every group of sites, the empty one first and all of them last."""
    names = sorted(sites)
    return tuple(
        frozenset(group)
        for size in range(len(names) + 1)
        for group in itertools.combinations(names, size)
    )


def shapley_values(values: Mapping[Group, float]) -> dict[str, float]:
    """Each site's part of what all sites together are worth over none; the parts add up to it.

    Args:
        values: What each group of the sites is worth, the empty group among them.

    Raises:
        CaseError: If a group is missing.

    References:
        Shapley 1953, A value for n-person games; for federations Wang et al. 2020,
        https://arxiv.org/abs/2009.06192.
    """
    sites = _sites_of(values)
    return {site: float(weights @ _in_order(values, sites)) for site, weights in _weights(sites)}


def contributions(
    runs: Sequence[Mapping[Group, SiteValues]], *, seed: int, n_bootstrap: int = 1000
) -> dict[str, Contribution]:
    """What each site adds, with intervals over new cases of these sites and new trainings.

    Args:
        runs: One item a training seed: the score of each held-out case of each site under the
            model of each group; the same groups, sites and cases everywhere, all scores finite.
        seed: Of the resampling. Seeds are drawn anew, and cases within sites, for all groups alike.
        n_bootstrap: Number of resamples.

    Raises:
        CaseError: If a group is missing, or groups were scored on different cases.
    """
    sites = _sites_of(runs[0])
    arrays = [_scores(run, sites) for run in runs]
    rng = np.random.default_rng(seed)
    weights = dict(_weights(sites))
    resamples = range(n_bootstrap + 1)
    drawn = [_figures(arrays, weights, rng if number else None) for number in resamples]
    return {
        site: Contribution(
            own=_share([figures[site][0] for figures in drawn]),
            others=_share([figures[site][1] for figures in drawn]),
            shapley=_share([figures[site][2] for figures in drawn]),
        )
        for site in sites
    }


def _scores(run: Mapping[Group, SiteValues], sites: Sequence[str]) -> list[Floats]:
    """For each site, scores of shape (groups, cases), groups in the order of `all_groups`."""
    groups = all_groups(sites)
    if missing := [group for group in groups if group not in run]:
        raise _missing(missing)
    cases = {site: sorted(run[groups[0]][site]) for site in sites}
    if any(sorted(run[group][site]) != cases[site] for group in groups for site in sites):
        raise CaseError(
            "Groups of sites were scored on different cases; expected the same cases for every "
            "group, or their scores do not compare. Score them again."
        )
    return [
        np.array([[run[group][site][case] for case in cases[site]] for group in groups])
        for site in sites
    ]


def _figures(
    arrays: Sequence[Sequence[Floats]],
    weights: Mapping[str, Floats],
    rng: np.random.Generator | None,
) -> dict[str, tuple[float, float, float]]:
    """Per site what its own cases lose, what the others' lose, and its Shapley value.

    Of the runs and cases as they are, or of a resample of both.
    """
    runs = range(len(arrays)) if rng is None else rng.integers(len(arrays), size=len(arrays))
    means = []
    for index in range(len(weights)):
        columns: slice | NDArray[np.int64] = slice(None)
        if rng is not None:
            n_cases = arrays[0][index].shape[1]
            columns = rng.integers(n_cases, size=n_cases)
        means.append(np.mean([arrays[run][index][:, columns].mean(axis=1) for run in runs], axis=0))
    by_site = np.stack(means)  # (sites, groups)
    groups = all_groups(weights)
    overall = by_site.mean(axis=0)
    figures = {}
    for index, site in enumerate(weights):
        lost = by_site[:, -1] - by_site[:, groups.index(frozenset(weights) - {site})]
        others = np.delete(lost, index)
        figures[site] = (float(lost[index]), float(others.mean()), float(weights[site] @ overall))
    return figures


def _weights(sites: Sequence[str]) -> Iterable[tuple[str, Floats]]:
    """For each site, what each group's worth counts for its Shapley value."""
    n = len(sites)
    groups = all_groups(sites)
    for site in sites:
        signs = [
            math.factorial(len(group - {site}))
            * math.factorial(n - 1 - len(group - {site}))
            / math.factorial(n)
            * (1 if site in group else -1)
            for group in groups
        ]
        yield site, np.array(signs)


def _sites_of(values: Iterable[Group]) -> tuple[str, ...]:
    """All sites of some groups, by name."""
    return tuple(sorted(frozenset().union(*values)))


def _in_order(values: Mapping[Group, float], sites: Sequence[str]) -> Floats:
    """What each group is worth, in the order of `all_groups`."""
    groups = all_groups(sites)
    if missing := [group for group in groups if group not in values]:
        raise _missing(missing)
    return np.array([values[group] for group in groups])


def _missing(groups: Sequence[Group]) -> CaseError:
    """What to say of groups without a score."""
    named = "; ".join("+".join(sorted(group)) or "no site" for group in groups[:5])
    return CaseError(
        f"{len(groups)} groups of sites have no score ({named}); expected one for every group, the "
        "empty one among them. Train or combine the model of each group, and score it."
    )


def _share(values: Sequence[float]) -> Share:
    """The first value with percentiles of the others."""
    low, high = np.quantile(values[1:], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Share(values[0], float(low), float(high))
