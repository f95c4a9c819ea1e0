"""Counts of rounded values: they can be added up over sites, and still give a median."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Self

import numpy as np
from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from segfed.settings import Settings


class Histogram(Settings):
    """How often each rounded value occurs.

    Every site rounds by the same rule, so the histogram of several sites is the one that their
    pooled cases would give, and a quantile is off by no more than the rounding.
    """

    values: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    """Rounded values, ascending."""

    counts: tuple[PositiveInt, ...]

    @model_validator(mode="after")
    def _one_count_a_value(self) -> Self:
        if len(self.values) != len(self.counts):
            raise ValueError(
                f"{len(self.values)} values have {len(self.counts)} counts; expected one each"
            )
        if any(before >= after for before, after in itertools.pairwise(self.values)):
            raise ValueError("values must ascend, each of them once")
        return self

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def quantile(self, fraction: float) -> float:
        """The value below which a fraction lies, as ``numpy.quantile`` of the rounded values."""
        position = fraction * (self.total - 1)
        upto = np.cumsum(self.counts)
        below, above = (
            self.values[int(np.searchsorted(upto, rank, side="right"))]
            for rank in (math.floor(position), math.ceil(position))
        )
        return float(below + (above - below) * (position - math.floor(position)))

    @classmethod
    def of_counts(cls, counts: Mapping[float, int]) -> Self:
        """The histogram of counts by value; values that never occur are left out."""
        rows = sorted((value, count) for value, count in counts.items() if count)
        values, numbers = zip(*rows, strict=True) if rows else ((), ())
        return cls(values=values, counts=numbers)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of everything that several ones counted."""
    counts: Counter[float] = Counter()
    for histogram in histograms:
        counts.update(dict(zip(histogram.values, histogram.counts, strict=True)))
    return Histogram.of_counts(counts)


def round_digits(value: float, *, digits: int) -> float:
    """A number with a few significant digits; three leave it within 0.5 %."""
    return float(f"{value:.{digits}g}")


def round_ratio(value: float, *, ratio: float) -> float:
    """The nearest power of a ratio to a positive number: a ratio of 1.05 leaves it within 2.5 %."""
    return round_digits(ratio ** round(math.log(value, ratio)), digits=6)
