"""What each site adds to a federation, from scores of the models that groups of sites make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segfed.errors import CaseError
from segfed.evaluation.difference import MINIMUM_PAIRED
from segfed.evaluation.statistics import SiteValues

Group = frozenset[str]
Order = tuple[str, ...]
Floats = NDArray[np.float64]

_LEVEL = 0.95


@dataclass(frozen=True)
class Share:
    """One figure of a site with its 95 % interval, where there are cases enough for one."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Contribution:
    """What a site adds, in points of the score."""

    own: Share
    """Left out: what the site's own held-out cases lose without it."""

    others: Share
    """Left out: what the held-out cases of the other sites lose, as the mean of sites."""

    shapley: Share
    """Its fair part of all that the sites gain together over no training, on the mean of sites: the
    mean of what it adds to a group, over the orders in which the sites could have come."""


def all_groups(sites: Collection[str]) -> tuple[Group, ...]:
    """Every group of sites, the empty one first and all of them last."""
    names = sorted(sites)
    return tuple(
        frozenset(group)
        for size in range(len(names) + 1)
        for group in itertools.combinations(names, size)
    )


def draw_orders(sites: Collection[str], *, n: int, seed: int) -> tuple[Order, ...]:
    """Orders in which the sites could have come, drawn at random, each by itself."""
    names, rng = sorted(sites), np.random.default_rng(seed)
    return tuple(tuple(names[index] for index in rng.permutation(len(names))) for _ in range(n))


def needed_groups(
    sites: Collection[str], orders: Collection[Order] | None = None
) -> tuple[Group, ...]:
    """The groups that `contributions` needs: all, or those that form in some orders.

    With orders there are also the groups that lack one site each, the smaller groups first.
    """
    if orders is None:
        return all_groups(sites)
    everybody = frozenset(sites)
    groups = {everybody, *(everybody - {site} for site in sites)}
    for order in orders:
        groups |= {frozenset(order[:size]) for size in range(len(order))}
    return tuple(sorted(groups, key=lambda group: (len(group), sorted(group))))


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
    groups = all_groups(sites)
    _check_all_there(values, groups)
    worth = np.array([values[group] for group in groups])
    return dict(zip(sites, map(float, _exact_weights(sites) @ worth), strict=True))


def contributions(
    runs: Sequence[Mapping[Group, SiteValues]],
    *,
    orders: Sequence[Order] | None = None,
    seed: int,
    n_bootstrap: int = 1000,
) -> dict[str, Contribution]:
    """What each site adds, with intervals over new cases of these sites and new trainings.

    As for other differences there is no interval over fewer than ``MINIMUM_PAIRED`` cases, or where
    a site has a single one, which no resample changes.

    Args:
        runs: One item a training seed: the score of each held-out case of each site under the
            model of each group of `needed_groups`; the same sites and cases everywhere, all scores
            finite.
        orders: Take the Shapley value as the mean over these alone (Castro, Gomez and Tejada 2009),
            which spares most groups where sites are many; the interval then covers other draws of
            as many orders, too. Exactly, over all groups, unless given.
        seed: Of the resampling. Seeds are drawn anew, and cases within sites and orders, for all
            groups alike.
        n_bootstrap: Number of resamples.

    Raises:
        CaseError: If a group is missing, or groups were scored on different cases.
    """
    sites = _sites_of(runs[0])
    groups = needed_groups(sites, orders)
    weights = _exact_weights(sites)[None] if orders is None else _order_weights(sites, orders)
    arrays = [_scores(run, sites, groups) for run in runs]
    n_cases = [scores.shape[1] for scores in arrays[0]]
    enough = min(n_cases) > 1 and sum(n_cases) >= MINIMUM_PAIRED
    without = [groups.index(frozenset(sites) - {site}) for site in sites]
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [
            _figures(arrays, weights, without, rng if number else None)
            for number in range(n_bootstrap + 1)
        ]
    )
    return {
        site: Contribution(*(_share(drawn[:, kind, index], enough=enough) for kind in range(3)))
        for index, site in enumerate(sites)
    }


def _scores(
    run: Mapping[Group, SiteValues], sites: Sequence[str], groups: Sequence[Group]
) -> list[Floats]:
    """For each site, scores of shape (groups, cases)."""
    _check_all_there(run, groups)
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
    weights: Floats,
    without: Sequence[int],
    rng: np.random.Generator | None,
) -> Floats:
    """What each site's own cases lose, what the others' lose, and its Shapley value: (3, sites).

    Of the runs, cases and orders as they are, or of a resample of all three.
    """

    def draw(n: int) -> NDArray[np.int64]:
        return np.arange(n) if rng is None else rng.integers(n, size=n)

    runs = draw(len(arrays))
    means = []
    for index in range(len(without)):
        cases = draw(arrays[0][index].shape[1])
        means.append(np.mean([arrays[run][index][:, cases].mean(axis=1) for run in runs], axis=0))
    by_site = np.stack(means)  # (sites, groups)
    lost = by_site[:, [-1]] - by_site[:, without]  # of each site's cases, by the site left out
    own = np.diagonal(lost)
    others = (lost.sum(axis=0) - own) / (len(without) - 1)
    shapley = weights[draw(len(weights))].mean(axis=0) @ by_site.mean(axis=0)
    return np.stack([own, others, shapley])


def _exact_weights(sites: Sequence[str]) -> Floats:
    """What each group's worth counts for the Shapley value of each site: (sites, groups)."""
    n, groups = len(sites), all_groups(sites)

    def weight(site: str, group: Group) -> float:
        size = len(group - {site})
        share = math.factorial(size) * math.factorial(n - 1 - size) / math.factorial(n)
        return share if site in group else -share

    return np.array([[weight(site, group) for group in groups] for site in sites])


def _order_weights(sites: Sequence[str], orders: Sequence[Order]) -> Floats:
    """The same for each order alone: 1 with the site, -1 before it: (orders, sites, groups)."""
    groups = needed_groups(sites, orders)
    weights = np.zeros((len(orders), len(sites), len(groups)))
    for row, order in zip(weights, orders, strict=True):
        for place, site in enumerate(order):
            row[sites.index(site), groups.index(frozenset(order[: place + 1]))] += 1
            row[sites.index(site), groups.index(frozenset(order[:place]))] -= 1
    return weights


def _sites_of(values: Iterable[Group]) -> tuple[str, ...]:
    """All sites of some groups, by name."""
    return tuple(sorted(frozenset().union(*values)))


def _check_all_there(found: Iterable[Group], expected: Iterable[Group]) -> None:
    """Name the groups without a score."""
    known = set(found)
    if missing := [group for group in expected if group not in known]:
        named = "; ".join("+".join(sorted(group)) or "no site" for group in missing[:5])
        raise CaseError(
            f"{len(missing)} groups of sites have no score ({named}); expected one for every "
            "group, the empty one among them. Train or combine the model of each group, and score "
            "it."
        )


def _share(values: Floats, *, enough: bool) -> Share:
    """The first value, with percentiles of the others where the cases are enough."""
    if not enough:
        return Share(float(values[0]), None, None)
    low, high = np.quantile(values[1:], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Share(float(values[0]), float(low), float(high))
