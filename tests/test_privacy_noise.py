"""Noise from a cryptographic source, and how much of it a site adds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from segfed.privacy import longest_update, noised, share_of_noise
from segfed.privacy.noise import drawn, normal, uniform
from segfed.rules import PrivacyRules

SITE = {
    "clip_norm": 2.0,
    "secure_aggregation": True,
    "threshold": 4,
    "differential_privacy": {
        "unit": "site",
        "epsilon": 8,
        "delta": 1e-2,
        "noise_multiplier": 3.0,
    },
}


def bytes_of(seed: int):
    """A source that repeats itself, for tests alone."""
    return np.random.default_rng(seed).bytes


def test_noise_has_the_standard_normal_distribution():
    # A correct sampler fails this with a chance of one in a thousand, and the seed is fixed.
    assert kstest(normal(20_000, bytes_of(0)), "norm").pvalue > 1e-3


def test_no_uniform_number_is_0_or_1_whose_normal_number_would_be_infinite():
    lowest, highest = (uniform(1, lambda n, byte=byte: byte * n)[0] for byte in (b"\0", b"\xff"))

    assert 0 < lowest < 1e-15
    assert 1 - 1e-15 < highest < 1


def test_two_draws_are_never_the_same():
    assert not np.array_equal(normal(100), normal(100))


def test_units_are_drawn_independently_at_the_rate():
    counts = [len(drawn(50, rate=0.2, random_bytes=bytes_of(seed))) for seed in range(400)]

    # Binomial: mean 10, standard deviation 2.83; of a mean over 400 it is 0.14.
    assert np.mean(counts) == pytest.approx(10, abs=0.6)
    assert np.std(counts) == pytest.approx(2.83, abs=0.4)
    assert drawn(50, rate=1.0) == list(range(50))


def test_sites_share_the_noise_so_that_a_sum_over_the_threshold_has_all_of_it():
    # 3 x 2 / sqrt(4); four such variances add up to (3 x 2)^2.
    assert share_of_noise(PrivacyRules.model_validate(SITE)) == 3.0


def test_no_site_adds_noise_where_nothing_or_the_patient_is_the_unit():
    patient = {"unit": "patient", "epsilon": 8, "delta": 1e-2, "clip_norm": 1.0}

    for private in (None, patient):
        rules = PrivacyRules.model_validate(SITE | {"differential_privacy": private})
        assert share_of_noise(rules) == 0
        assert longest_update(rules, n_weights=10**6) == 2.0


def test_a_noised_update_fits_into_the_range_that_is_counted_in():
    rules = PrivacyRules.model_validate(SITE)
    update = {"a": np.full((100, 100), 0.02, np.float32), "b": np.float32(0.0).reshape(())}

    found = noised(update, std=share_of_noise(rules), random_bytes=bytes_of(1))

    norm = np.sqrt(sum(float((array.astype(float) ** 2).sum()) for array in found.values()))
    # Of the 10001 numbers' noise alone: 3 sqrt(10001) = 300.
    assert 295 < norm < longest_update(rules, n_weights=10_001) < 335
    assert {name: (a.shape, a.dtype) for name, a in found.items()} == {
        "a": ((100, 100), np.dtype(np.float32)),
        "b": ((), np.dtype(np.float32)),
    }
