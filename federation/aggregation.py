"""The sites' updates made into one, weight by weight and in the order of the sites' names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from federation.messages import Weights
from federation.similarity import Comparison, krum_choice
from federation.spool import Spool
from segfed.rules import FederationRules


def aggregate(
    spool: Spool,
    *,
    model: Weights,
    counts: Mapping[str, float],
    rules: FederationRules,
    comparison: Comparison,
) -> Weights:
    """Mean, median, trimmed mean or Krum's choice of the sites' weights, as the study says.

    All arithmetic is in float64 and in the order of the sites' names, because replies come in any
    order and float sums depend on it; only the result is rounded to the type of the weights.

    Args:
        spool: The updates.
        model: The global model that they started from; gives names, shapes and types.
        counts: What each site that counts is weighted by; only ``mean`` weighs.
        rules: Names the method.
        comparison: Of the sites that count; its norms say which updates are shortened.
    """
    if rules.uses_krum:
        n_chosen = 1 if rules.aggregation == "krum" else len(counts) - rules.hostile_sites - 2
        chosen = krum_choice(comparison, n_hostile=rules.hostile_sites, n_chosen=n_chosen)
        counts = dict.fromkeys(chosen, 1)
    lengths = _lengths(comparison, rules)
    result = {name: np.empty(array.size, dtype=array.dtype) for name, array in model.items()}
    for piece in spool.pieces():
        start = model[piece.name].reshape(-1)[piece.start : piece.stop]
        values = (_shortened(spool.read(s, piece), start, lengths[s]) for s in sorted(counts))
        combined = _combined(values, [counts[site] for site in sorted(counts)], rules)
        result[piece.name][piece.start : piece.stop] = combined.astype(piece.dtype)
    return {name: result[name].reshape(array.shape) for name, array in model.items()}


def _combined(
    values: Iterator[NDArray[np.generic]], counts: Sequence[float], rules: FederationRules
) -> NDArray[np.float64]:
    """One stretch of the result from the same stretch of each site, by name."""
    if rules.aggregation in {"median", "trimmed_mean"}:
        stacked = np.stack(list(values))
        stacked.sort(axis=0)
        n_left_out = _n_left_out(len(counts), rules)
        kept = stacked[n_left_out : len(counts) - n_left_out]
        return np.asarray(kept.mean(axis=0, dtype=np.float64))
    total = np.zeros(1)
    for count, value in zip(counts, values, strict=True):
        total = total + count * value.astype(np.float64)
    return total / sum(counts)


def _n_left_out(n_sites: int, rules: FederationRules) -> int:
    """Values left out at each end; the median keeps the middle one, or two."""
    if rules.aggregation == "median":
        return (n_sites - 1) // 2
    return int(rules.trimmed_fraction * n_sites)


def _lengths(comparison: Comparison, rules: FederationRules) -> dict[str, float]:
    """The share of each update that is kept, so that none is longer than the study allows."""
    if rules.clip_norm_ratio is None:
        return dict.fromkeys(comparison.sites, 1.0)
    longest = rules.clip_norm_ratio * float(np.median(comparison.norms))
    return {
        site: min(1.0, longest / norm) if norm > 0 else 1.0
        for site, norm in zip(comparison.sites, comparison.norms.tolist(), strict=True)
    }


def _shortened(
    values: NDArray[np.generic], start: NDArray[np.generic], length: float
) -> NDArray[np.generic]:
    """A site's weights, moved towards the global model where its update is too long."""
    if length == 1:
        return values
    base = start.astype(np.float64)
    return np.asarray(base + length * (values.astype(np.float64) - base))
