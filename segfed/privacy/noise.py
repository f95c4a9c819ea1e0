"""Gaussian noise that nobody can draw again, and how much of it a site adds. Light: no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from segfed.errors import ConfigError
from segfed.privacy.fixed_point import Arrays
from segfed.rules import PrivacyRules

RandomBytes = Callable[[int], bytes]

# Noise of n numbers is longer than sqrt(n) + 10 of its standard deviations with a chance of
# exp(-50) (Laurent and Massart, 2000): far below any delta.
_SPARE_LENGTH = 10.0


def uniform(n: int, random_bytes: RandomBytes = os.urandom) -> NDArray[np.float64]:
    """Numbers between 0 and 1, neither included, from the system's cryptographic generator.

    A seed, and a Mersenne Twister even without one, would let others draw the same noise again and
    take it off.
    """
    bits = np.frombuffer(random_bytes(8 * n), dtype=np.uint64)
    return np.asarray(((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)


def normal(n: int, random_bytes: RandomBytes = os.urandom) -> NDArray[np.float64]:
    """Independent standard Gaussian numbers.

    Each is half the sum of four, so that the last bits of a result do not tell the noise apart
    from what it hides (Holohan and Braghin, ESORICS 2021; Opacus does so in its secure mode).
    """
    total = np.zeros(n)
    for _ in range(4):
        total += ndtri(uniform(n, random_bytes))
    return np.asarray(total / 2)


def drawn(n: int, *, rate: float, random_bytes: RandomBytes = os.urandom) -> list[int]:
    """Those of n units that a step draws, each by a coin of its own: any number, also none."""
    return [int(index) for index in np.flatnonzero(uniform(n, random_bytes) < rate)]


def share_of_noise(rules: PrivacyRules) -> float:
    """Standard deviation of what a site adds to each number of its update; 0 for unit patient.

    The sum is over at least ``threshold`` sites, and variances add up. In the sum of updates that
    count once each, one site's part is no longer than ``clip_norm``.
    """
    private = rules.differential_privacy
    if private is None or private.unit != "site":
        return 0.0
    return (
        stated(private.noise_multiplier)
        * stated(rules.clip_norm)
        / math.sqrt(stated(rules.threshold))
    )


def longest_update(rules: PrivacyRules, *, n_weights: int) -> float:
    """Largest norm that a clipped update can have with its noise."""
    noise = share_of_noise(rules)
    spare = noise * (math.sqrt(n_weights) + _SPARE_LENGTH) if noise else 0.0
    return stated(rules.clip_norm) + spare


def noised(update: Arrays, *, std: float, random_bytes: RandomBytes = os.urandom) -> Arrays:
    """An update with noise on every number; types stay."""
    return {
        name: np.asarray(
            array.astype(np.float64) + std * normal(array.size, random_bytes).reshape(array.shape),
            dtype=array.dtype,
        )
        for name, array in update.items()
    }


def stated(value: float | None) -> float:
    """A number that the rules were checked to hold; without it nothing may be sent.

    Raises:
        ConfigError: If it is not there.
    """
    if value is None:
        raise ConfigError(
            "A number of [privacy] is not stated, expected all of them in a manifest. Sign the "
            "study anew."
        )
    return value
