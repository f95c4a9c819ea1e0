"""Which case trains, which one chooses the round, and which one is scored at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from segfed.protocol import Split


def assign_splits(
    patients: Mapping[str, str],
    *,
    seed: int,
    test_fraction: float = 0.2,
    minimum_test: int = 8,
    validation_fraction: float = 0.1,
    minimum_validation: int = 2,
    warmup_fraction: float = 0.0,
) -> dict[str, Split]:
    """A random split of one site's cases, by patient, the same for the same seed.

    At least max(20 %, 8) cases are held out for testing where the site has them: a site with
    fewer than twice the minimum holds out half. The last patient always trains.

    Args:
        patients: Patient of every case; the cases of one patient share a split.
        seed: Seed of the shuffle; the order of ``patients`` plays no part.
        test_fraction: Share of all cases held out for testing, rounded up.
        minimum_test: Cases held out for testing at least.
        validation_fraction: Share of all cases that choose a round, rounded up.
        minimum_validation: Cases that choose a round at least.
        warmup_fraction: Share of all cases on which the proposing model trains, rounded up.

    Returns:
        Split of every case, in the order of ``patients``.
    """
    n_cases = len(patients)
    wanted: list[tuple[Split, int]] = [
        ("test", min(max(_share(test_fraction, n_cases), minimum_test), n_cases // 2)),
        ("validation", max(_share(validation_fraction, n_cases), minimum_validation)),
        ("warmup", _share(warmup_fraction, n_cases)),
    ]
    shuffled = np.random.default_rng(seed).permutation(sorted(set(patients.values()))).tolist()
    split_of: dict[str, Split] = {}
    for split, n_wanted in wanted:
        n_taken = 0
        while n_taken < n_wanted and len(shuffled) > 1:
            patient = shuffled.pop()
            split_of[patient] = split
            n_taken += sum(other == patient for other in patients.values())
    return {case_id: split_of.get(patient, "train") for case_id, patient in patients.items()}


def _share(fraction: float, n_cases: int) -> int:
    """Cases in a share, rounded up; 0.2 of 15 is 3 although 0.2 * 15 is a hair more."""
    return math.ceil(round(fraction * n_cases, 9))
