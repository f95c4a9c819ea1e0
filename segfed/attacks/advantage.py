"""How well a score tells the patients that a model learned from, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segfed.errors import PrivacyError

Floats = NDArray[np.float64]

_LEVEL = 0.95
_N_SPLITS = 10
FEWEST_PATIENTS = 4
"""Members and others that a site needs to count: half of them choose the threshold."""


@dataclass(frozen=True)
class Candidate:
    """A patient of whom somebody wants to know whether a model learned from them."""

    site: str
    score: float
    """The higher, the more the model behaves as if it had."""

    is_member: bool


@dataclass(frozen=True)
class Advantage:
    """How well an attack does, with 95 % intervals over new patients of these sites."""

    advantage: float
    """True positive rate minus false positive rate: 0 is guessing, 1 is knowing."""

    advantage_low: float
    advantage_high: float
    auc: float
    """Chance that a patient the model learned from scores higher than one it did not; 0.5 is
    guessing."""

    auc_low: float
    auc_high: float
    n_members: int
    n_others: int


def attack_advantage(
    candidates: Sequence[Candidate], *, seed: int, n_bootstrap: int = 1000
) -> Advantage:
    """What an attacker gains who calls everybody a member whose score passes a threshold.

    The threshold is chosen on one half of the patients and judged on the other, and the other way
    round, over ten random halvings: guessing gives 0 on average, and not the best of many tries.
    Members are compared with other patients of their own site only, so that a site with easier
    cases gives nobody away; a site counts by its number of possible pairs over its patients.

    Args:
        candidates: Each patient once.
        seed: Of halvings and resampling.
        n_bootstrap: Resamples of the patients, within site and membership.

    Returns:
        The point estimates, with percentile intervals.

    Raises:
        PrivacyError: If no site has four members and four others, or a score is not finite.

    References:
        Yeom et al. 2018, https://arxiv.org/abs/1709.01604, define the advantage.
    """
    _check(candidates)
    rng = np.random.default_rng(seed)
    scores = np.array([one.score for one in candidates])
    groups = _groups(candidates)
    counts = np.concatenate(
        [np.ones((1, len(scores))), _resampled(groups, len(scores), n_bootstrap, rng)]
    )
    auc = _auc(scores, groups, counts)
    halvings = [_half(groups, len(scores), rng) for _ in range(_N_SPLITS)]
    gained = np.nanmean(
        [
            _gained(scores, groups, counts, learn=half, judge=~half)
            for first in halvings
            for half in (first, ~first)
        ],
        axis=0,
    )
    low, high = (1 - _LEVEL) / 2, (1 + _LEVEL) / 2
    return Advantage(
        advantage=float(gained[0]),
        advantage_low=float(np.nanquantile(gained[1:], low)),
        advantage_high=float(np.nanquantile(gained[1:], high)),
        auc=float(auc[0]),
        auc_low=float(np.quantile(auc[1:], low)),
        auc_high=float(np.quantile(auc[1:], high)),
        n_members=sum(one.is_member for one in candidates),
        n_others=sum(not one.is_member for one in candidates),
    )


@dataclass(frozen=True)
class _Group:
    """Positions of one site's members and others."""

    members: NDArray[np.intp]
    others: NDArray[np.intp]


def _groups(candidates: Sequence[Candidate]) -> list[_Group]:
    """The sites with enough patients of both kinds."""
    sites = np.array([one.site for one in candidates])
    is_member = np.array([one.is_member for one in candidates])
    found = [
        _Group(
            np.flatnonzero((sites == site) & is_member),
            np.flatnonzero((sites == site) & ~is_member),
        )
        for site in sorted(set(sites.tolist()))
    ]
    return [
        group for group in found if min(len(group.members), len(group.others)) >= FEWEST_PATIENTS
    ]


def _check(candidates: Sequence[Candidate]) -> None:
    """Refuse what says nothing."""
    if not all(np.isfinite(one.score) for one in candidates):
        raise PrivacyError(
            "A candidate has a score that is not a finite number; expected one for each patient. "
            "Leave out patients whom the model cannot be scored on."
        )
    if not _groups(candidates):
        members = sum(one.is_member for one in candidates)
        raise PrivacyError(
            f"Found {members} patients that the model learned from and "
            f"{len(candidates) - members} others; expected {FEWEST_PATIENTS} of each at one site "
            "at least, or no threshold could be chosen and judged. Attack a study with more test "
            "cases."
        )


def _resampled(
    groups: Sequence[_Group], n: int, n_bootstrap: int, rng: np.random.Generator
) -> Floats:
    """How often each patient is in each resample, shape (resamples, patients)."""
    counts = np.zeros((n_bootstrap, n))
    for part in _parts(groups):
        counts[:, part] = rng.multinomial(len(part), np.full(len(part), 1 / len(part)), n_bootstrap)
    return counts


def _parts(groups: Sequence[_Group]) -> Iterator[NDArray[np.intp]]:
    """Members and others of each site."""
    for group in groups:
        yield group.members
        yield group.others


def _half(groups: Sequence[_Group], n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """One half of the patients of each site and kind."""
    half = np.zeros(n, dtype=bool)
    for part in _parts(groups):
        half[rng.permutation(part)[: len(part) // 2]] = True
    return half


def _auc(scores: Floats, groups: Sequence[_Group], counts: Floats) -> Floats:
    """For each row of counts, the share of pairs of one site in which the member scores higher."""
    total, weight = np.zeros(len(counts)), 0.0
    for group in groups:
        difference = scores[group.members][:, None] - scores[group.others][None, :]
        wins = (np.sign(difference) + 1) / 2
        n_members, n_others = wins.shape
        share = n_members * n_others / (n_members + n_others)
        pairs = np.einsum("bi,ij,bj->b", counts[:, group.members], wins, counts[:, group.others])
        total += share * pairs / wins.size
        weight += share
    return np.asarray(total / weight)


def _gained(
    scores: Floats,
    groups: Sequence[_Group],
    counts: Floats,
    *,
    learn: NDArray[np.bool_],
    judge: NDArray[np.bool_],
) -> Floats:
    """For each row of counts, what the best threshold of one part gains on the other."""
    thresholds = np.unique(scores[learn])
    passes = (scores[:, None] >= thresholds[None, :]).astype(np.float64)
    chosen = np.nanargmax(_rates_apart(passes, groups, counts * learn, empty=0.0), axis=1)
    gains = _rates_apart(passes, groups, counts * judge, empty=np.nan)
    return np.asarray(gains[np.arange(len(counts)), chosen])


def _rates_apart(
    passes: Floats, groups: Sequence[_Group], counts: Floats, *, empty: float
) -> Floats:
    """True minus false positive rate, shape (rows of counts, thresholds).

    A site without one of the two kinds in a resample does not count there; ``empty`` is what a
    resample without any such site gives.
    """
    total: Any = np.zeros((len(counts), passes.shape[1]))
    weight: Any = np.zeros((len(counts), 1))
    for group in groups:
        members, others = counts[:, group.members], counts[:, group.others]
        n_members = members.sum(axis=1, keepdims=True)
        n_others = others.sum(axis=1, keepdims=True)
        share = n_members * n_others / np.maximum(n_members + n_others, 1)
        rates = members @ passes[group.members] / np.maximum(n_members, 1)
        rates -= others @ passes[group.others] / np.maximum(n_others, 1)
        total += share * rates
        weight += share
    return np.asarray(np.where(weight > 0, total / np.maximum(weight, 1e-9), empty))
