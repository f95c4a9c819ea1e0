"""What noise costs: Opacus' Rényi accountant, asked in this project's words.

Rényi differential privacy of the subsampled Gaussian mechanism (Mironov, Talwar and Zhang, 2019),
turned into (epsilon, delta) after Balle et al. (AISTATS 2020). It bounds from above, for any
number of mechanisms with noise and sampling rates of their own. Opacus brings torch and takes
seconds to load, so it is loaded where it is asked.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from segfed.rules import PrivacyRules

# Opacus' own end at 63, where strong noise is charged more than it costs.
_ORDERS = (*(1 + step / 10 for step in range(1, 100)), *range(11, 64), *range(64, 513, 32))


@dataclass(frozen=True)
class Mechanism:
    """Noise that was drawn some times, in the same way each time."""

    noise_multiplier: float
    """Standard deviation of the noise over the longest contribution of one unit."""

    sampling_rate: float
    """Chance of each unit to contribute, independently of the others."""

    steps: int


def spent_epsilon(mechanisms: Iterable[Mechanism], *, delta: float) -> float:
    """The epsilon of everything that was drawn, together; 0 for nothing.

    Neighbours differ by the contribution of one unit, which is there or counts as zero.
    """
    steps: Counter[tuple[float, float]] = Counter()
    for mechanism in mechanisms:
        steps[mechanism.noise_multiplier, mechanism.sampling_rate] += mechanism.steps
    history = tuple((noise, rate, n) for (noise, rate), n in sorted(steps.items()) if n)
    return _epsilon(history, delta) if history else 0.0


@lru_cache(maxsize=1024)
def _epsilon(history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = list(history)
    with _loose_bounds_allowed():
        return max(0.0, float(accountant.get_epsilon(delta=delta, alphas=list(_ORDERS))))


@lru_cache(maxsize=64)
def noise_multiplier_for(
    *, epsilon: float, delta: float, sampling_rate: float, steps: int
) -> float:
    """The least noise, to four digits, with which so many steps stay within a budget."""
    from opacus.accountants.utils import get_noise_multiplier

    with _loose_bounds_allowed():
        found = get_noise_multiplier(
            target_epsilon=epsilon,
            target_delta=delta,
            sample_rate=sampling_rate,
            steps=steps,
            accountant="rdp",
            epsilon_tolerance=min(0.01, epsilon / 100),
            alphas=list(_ORDERS),
        )
    return float(math.ceil(found * 1e4) / 1e4)


@contextmanager
def _loose_bounds_allowed() -> Iterator[None]:
    """At the first or last order the bound is looser than it could be, and still a bound."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimal order is the", UserWarning)
        yield


def with_noise(rules: PrivacyRules, *, rounds: int, steps_per_round: int) -> PrivacyRules:
    """The rules with the noise that the planned steps need, where they state none.

    Args:
        rules: Of a study.
        rounds: Planned.
        steps_per_round: Of each site.
    """
    private = rules.differential_privacy
    if private is None or private.noise_multiplier is not None:
        return rules
    noise = noise_multiplier_for(
        epsilon=private.epsilon,
        delta=private.delta,
        sampling_rate=private.sampling_rate,
        steps=private.planned_steps(rounds=rounds, steps_per_round=steps_per_round),
    )
    stated = private.model_copy(update={"noise_multiplier": noise})
    return rules.model_copy(update={"differential_privacy": stated})
