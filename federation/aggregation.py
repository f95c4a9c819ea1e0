"""The sites' updates made into one, weight by weight and in the order of the sites' names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from federation.messages import Weights
from federation.spool import Piece, Spool
from segfed.rules import FederationRules


def aggregate(
    spool: Spool, *, model: Weights, counts: Mapping[str, int], rules: FederationRules
) -> Weights:
    """Mean, median or trimmed mean of the sites' weights, as the study says.

    All arithmetic is in float64 and in the order of the sites' names, because replies come in any
    order and float sums depend on it; only the result is rounded to the type of the weights.

    Args:
        spool: The updates.
        model: Names, shapes and types of the result.
        counts: What each site that counts is weighted by; only ``mean`` weighs.
        rules: Names the method.
    """
    result = {name: np.empty(array.size, dtype=array.dtype) for name, array in model.items()}
    for piece in spool.pieces():
        values = _value(spool, piece, counts, rules)
        result[piece.name][piece.start : piece.stop] = values.astype(piece.dtype)
    return {name: result[name].reshape(array.shape) for name, array in model.items()}


def _value(
    spool: Spool, piece: Piece, counts: Mapping[str, int], rules: FederationRules
) -> NDArray[np.float64]:
    """One stretch of the result."""
    sites = sorted(counts)
    if rules.aggregation == "mean":
        total = np.zeros(piece.stop - piece.start, dtype=np.float64)
        for site in sites:
            total += counts[site] * spool.read(site, piece).astype(np.float64)
        return total / sum(counts.values())
    values = np.stack([spool.read(site, piece) for site in sites])
    values.sort(axis=0)
    n_left_out = _n_left_out(len(sites), rules)
    kept = values[n_left_out : len(sites) - n_left_out]
    return np.asarray(kept.mean(axis=0, dtype=np.float64))


def _n_left_out(n_sites: int, rules: FederationRules) -> int:
    """Values left out at each end; the median keeps the middle one, or two."""
    if rules.aggregation == "median":
        return (n_sites - 1) // 2
    return int(rules.trimmed_fraction * n_sites)
