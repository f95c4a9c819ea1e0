"""Updates as whole numbers that add up without rounding, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segfed.errors import PrivacyError

Arrays = dict[str, NDArray[np.generic]]
Numbers = dict[str, NDArray[np.uint64]]
"""Integers modulo 2^64 by parameter name; negative ones in two's complement."""

# One bit of 64 is the sign, and one is kept free so that a sum that is too large shows.
_LARGEST_SUM = 2.0**62

# Clipped updates are rounded to float32.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class FixedPoint:
    """How finely updates are counted: as finely as the largest possible sum allows."""

    clip_norm: float
    """Largest Euclidean norm of an update, and so of any of its weights."""

    max_count: int
    """Largest number that a site's update is weighted by."""

    n_sites: int
    """Updates that are added at most."""

    @property
    def scale(self) -> float:
        """Steps in a unit: a power of two, so that scaling itself rounds nothing."""
        largest = self.clip_norm * self.max_count * self.n_sites
        return 2.0 ** math.floor(math.log2(_LARGEST_SUM / largest))

    def encode(self, update: Arrays, *, count: int) -> Numbers:
        """An update times its count, as whole numbers; arrays of any shape and real type.

        Raises:
            PrivacyError: If the update is longer than ``clip_norm``, not finite, or counts too
                much: the sum could overflow.
        """
        norm = euclidean_norm(update)
        if not norm <= self.clip_norm * (1 + _TOLERANCE) or not 1 <= count <= self.max_count:
            raise PrivacyError(
                f"An update of norm {norm:.6g} that counts {count} times was to be added, expected "
                f"at most {self.clip_norm:g} and 1 to {self.max_count}. Clip it first, or correct "
                "max_cases in the study."
            )
        factor = count * self.scale
        return {
            name: np.asarray(np.rint(array.astype(np.float64) * factor), dtype=np.int64).view(
                np.uint64
            )
            for name, array in update.items()
        }

    def decode(self, total: Numbers, *, count: int) -> dict[str, NDArray[np.float64]]:
        """The weighted mean update of a sum, float64.

        Args:
            total: The sum of encoded updates.
            count: The sum of their counts.

        Raises:
            PrivacyError: If no clipped updates have this sum: it overflowed, a mask is left on it,
                or a site sent what it was not asked for.
        """
        factor = count * self.scale
        mean = {
            name: np.asarray(array.view(np.int64).astype(np.float64) / factor)
            for name, array in total.items()
        }
        norm = euclidean_norm(mean)
        if not norm <= self.clip_norm * (1 + _TOLERANCE):
            raise PrivacyError(
                f"The mean of the masked updates has norm {norm:.3g}, expected at most the "
                f"clipping norm {self.clip_norm:g}: a site sent something else than its clipped "
                "update, or masks did not cancel. Run the round again; if it fails again, leave "
                "sites out one by one."
            )
        return mean


def euclidean_norm(arrays: Arrays | dict[str, NDArray[np.float64]]) -> float:
    """Norm over all arrays, in float64."""
    total = 0.0
    for array in arrays.values():
        flat = array.astype(np.float64).ravel()
        total += float(flat @ flat)
    return math.sqrt(total)


def clip(update: Arrays, *, norm: float) -> Arrays:
    """The update, shortened to a Euclidean norm where it is longer; types stay."""
    found = euclidean_norm(update)
    if found <= norm:
        return dict(update)
    return {
        name: np.asarray(array.astype(np.float64) * (norm / found), dtype=array.dtype)
        for name, array in update.items()
    }
