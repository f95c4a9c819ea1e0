"""How the sites' updates lie to each other: their lengths and angles, and which look wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federation.messages import Weights
from federation.spool import Spool

# Weights that are turned into float64 at once: 64 sites take 16 MiB.
_STRETCH = 2**15

# Of fewer sites no median tells the odd one from the others.
_FEWEST_NORMS, _FEWEST_COSINES = 3, 4

# Chosen on seed 100 of benchmarks/robustness.py with one hostile site of four; docs/robustness.md
# holds the figures of other seeds.
_LARGEST_RATIO = 3.0
_SMALLEST_RATIO = 0.2
_SMALLEST_SHARE_OF_COSINE = 0.5
# And by so much less: where honest updates hardly agree, late in a training with short rounds, half
# of little is no sign.
_SMALLEST_LACK_OF_COSINE = 0.2
_SMALLEST_DISTANCE = 0.3


@dataclass(frozen=True)
class Comparison:
    """A round's updates, each the difference of a site's model and the global one."""

    sites: tuple[str, ...]
    """In the order of their names."""

    products: NDArray[np.float64]
    """Inner products of the updates, shape (sites, sites): all that the scores need."""

    @property
    def norms(self) -> NDArray[np.float64]:
        """Euclidean norm of each update."""
        return np.asarray(np.sqrt(np.diagonal(self.products)))

    @property
    def norm_ratios(self) -> NDArray[np.float64]:
        """Each norm in units of their median; NaN where most sites changed nothing."""
        usual = np.median(self.norms)
        return np.asarray(self.norms / usual) if usual > 0 else np.full(len(self.sites), np.nan)

    @property
    def squared_distances(self) -> NDArray[np.float64]:
        """Between each two updates, shape (sites, sites)."""
        squares = np.diagonal(self.products)
        distances = squares[:, None] + squares[None, :] - 2 * self.products
        return np.asarray(np.maximum(distances, 0.0))

    @property
    def cosines(self) -> NDArray[np.float64]:
        """Median over the other sites of the cosine with their update; NaN beside fewer than two.

        The median and not the mean, so that a minority that agrees with itself decides nothing.
        """
        lengths = np.where(self.norms > 0, self.norms, np.inf)
        cosines = self.products / np.outer(lengths, lengths)
        return np.array([_median(np.delete(row, index)) for index, row in enumerate(cosines)])

    @property
    def distances(self) -> NDArray[np.float64]:
        """From each update (row) to each other one, in units of the row's norm; NaN to itself.

        Identical updates have distance 0, perpendicular ones of equal length 1.41.
        """
        lengths = np.where(self.norms > 0, self.norms, np.nan)
        distances = np.asarray(np.sqrt(self.squared_distances) / lengths[:, None])
        np.fill_diagonal(distances, np.nan)
        return distances

    def of(self, sites: Collection[str]) -> Comparison:
        """The same of some of the sites."""
        kept = [index for index, site in enumerate(self.sites) if site in sites]
        names = tuple(self.sites[index] for index in kept)
        return Comparison(names, self.products[np.ix_(kept, kept)])


def compare(spool: Spool, *, model: Weights, sites: Collection[str]) -> Comparison:
    """Inner products of some sites' updates, summed in float64 and piece by piece.

    Args:
        spool: The updates.
        model: The global model that they started from.
        sites: Whose updates.
    """
    names = tuple(sorted(sites))
    products = np.zeros((len(names), len(names)))
    for piece in spool.pieces():
        start = model[piece.name].reshape(-1)[piece.start : piece.stop]
        read = [spool.read(site, piece) for site in names]
        for begin in range(0, start.size, _STRETCH):
            part = slice(begin, begin + _STRETCH)
            rows = np.stack([values[part] for values in read]).astype(np.float64)
            rows -= start[part]
            products += rows @ rows.T
    return Comparison(names, products)


def outlier_scores(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    """``norm_ratio``, ``cosine`` and ``nearest_distance`` of each site; None where undefined."""
    columns = {
        "norm_ratio": comparison.norm_ratios,
        "cosine": comparison.cosines,
        "nearest_distance": np.fmin.reduce(comparison.distances, axis=1),
    }
    return {
        site: {
            name: float(values[index]) if np.isfinite(values[index]) else None
            for name, values in columns.items()
        }
        for index, site in enumerate(comparison.sites)
    }


def suspects(
    comparison: Comparison, *, steps: Mapping[str, float], steps_weigh: bool
) -> dict[str, str]:
    """Sites whose update looks wrong, each with the reason.

    A flag is a reason to ask and no proof: a hospital with other scanners also differs. Of two
    equal updates the second by name is flagged, for nothing says which is the copy. Nothing is
    said of the lengths among fewer than three sites, nor of the angles among fewer than four.

    Args:
        comparison: The round's updates.
        steps: What each site says it took: one that took more may have moved as much farther.
        steps_weigh: Whether updates are weighted by them. One that took fewer may then have moved
            as much less; else nobody who understates them pays for it, and they excuse nothing.
    """
    found = [
        *_copies(comparison),
        *_odd_lengths(comparison, steps, steps_weigh=steps_weigh),
        *_odd_directions(comparison),
    ]
    return {
        site: "; ".join(reason for name, reason in found if name == site)
        for site in sorted({name for name, _ in found})
    }


def _copies(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Updates that equal one of a site that comes before."""
    distances = comparison.distances
    for index, site in enumerate(comparison.sites[1:], start=1):
        before = distances[index, :index]
        if np.isfinite(before).all() and before.min() < _SMALLEST_DISTANCE:
            twin = comparison.sites[int(np.argmin(before))]
            yield site, f"its update is that of {twin}, up to {before.min():.2g} of its length"


def _odd_lengths(
    comparison: Comparison, steps: Mapping[str, float], *, steps_weigh: bool
) -> Iterator[tuple[str, str]]:
    """Updates far shorter or longer than the median one."""
    if len(comparison.sites) < _FEWEST_NORMS:
        return
    usual_steps = float(np.median([steps[site] for site in comparison.sites]))
    for site, ratio in zip(comparison.sites, comparison.norm_ratios, strict=True):
        share = steps[site] / usual_steps
        if ratio < _SMALLEST_RATIO * (min(1.0, share) if steps_weigh else 1.0):
            yield site, f"it changed the model by only {ratio:.2g} of the median"
        if ratio > _LARGEST_RATIO * max(1.0, share):
            yield site, f"it changed the model by {ratio:.3g} times the median"


def _odd_directions(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Updates that agree with the others far less than is usual."""
    if len(comparison.sites) < _FEWEST_COSINES:
        return
    cosines = comparison.cosines
    usual = float(np.median(cosines))
    for site, cosine in zip(comparison.sites, cosines, strict=True):
        lacks = usual - cosine > _SMALLEST_LACK_OF_COSINE
        if lacks and usual > 0 and cosine < _SMALLEST_SHARE_OF_COSINE * usual:
            yield site, f"its cosine with the others is {cosine:.2g}, usual is {usual:.2g}"


def krum_choice(comparison: Comparison, *, n_hostile: int, n_chosen: int) -> list[str]:
    """The sites whose updates lie closest to most others, by Krum's score.

    The score is the sum of the squared distances to the n - f - 2 nearest other updates (Blanchard
    et al., NeurIPS 2017); of equal scores the first name wins. Flower's own Krum computes the
    distances of whole models in float32, where those of small updates drown in rounding.

    Args:
        comparison: The round's updates; at least 2 f + 3 of them.
        n_hostile: f, the hostile sites that are to be borne.
        n_chosen: 1 for Krum; Multi-Krum takes more.
    """
    n_near = len(comparison.sites) - n_hostile - 2
    distances = comparison.squared_distances.copy()
    np.fill_diagonal(distances, np.inf)
    scores = np.sort(distances, axis=1)[:, :n_near].sum(axis=1)
    order = np.argsort(scores, kind="stable")
    return sorted(comparison.sites[index] for index in order[:n_chosen])


def _median(values: NDArray[np.float64]) -> float:
    """The median; NaN of fewer than two values."""
    return float(np.median(values)) if values.size > 1 else float("nan")
