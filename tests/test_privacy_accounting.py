"""What noise costs."""

from __future__ import annotations

import math

import pytest

from segfed.privacy import (
    Mechanism,
    noise_multiplier_for,
    spent_epsilon,
    with_noise,
)
from segfed.rules import PrivacyRules

PATIENT = {
    "unit": "patient",
    "epsilon": 8.0,
    "delta": 1e-5,
    "clip_norm": 1.0,
    "sampling_rate": 0.1,
}


def exact_delta(epsilon: float, noise_multiplier: float) -> float:
    """Of one Gaussian mechanism (Balle and Wang, ICML 2018, theorem 8)."""

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    a, b = 1 / (2 * noise_multiplier), epsilon * noise_multiplier
    return phi(a - b) - math.exp(epsilon) * phi(-a - b)


@pytest.mark.parametrize("steps", [1, 9])
@pytest.mark.parametrize("noise", [1.0, 3.0, 10.0])
def test_epsilon_of_full_batches_lies_above_the_exact_one_and_not_far(noise, steps):
    # Gaussian mechanisms in a row are one with noise / sqrt(steps).
    found = spent_epsilon([Mechanism(noise, 1.0, steps)], delta=1e-5)

    assert exact_delta(found, noise / math.sqrt(steps)) <= 1e-5
    assert exact_delta(0.75 * found, noise / math.sqrt(steps)) > 1e-5


def test_trainings_add_up_whatever_their_order_and_grouping():
    strong, weak = Mechanism(2.0, 0.1, 30), Mechanism(1.0, 0.1, 10)

    both = spent_epsilon([strong, weak], delta=1e-5)

    assert both == spent_epsilon([weak, *[Mechanism(2.0, 0.1, 10)] * 3], delta=1e-5)
    alone = [spent_epsilon([one], delta=1e-5) for one in (strong, weak)]
    assert max(alone) < both < sum(alone)


def test_drawing_fewer_patients_costs_less():
    few, all_of_them = (spent_epsilon([Mechanism(2.0, q, 50)], delta=1e-5) for q in (0.05, 1.0))

    assert few < all_of_them / 5


def test_nothing_costs_nothing():
    assert spent_epsilon([], delta=1e-5) == 0
    assert spent_epsilon([Mechanism(1.0, 0.5, 0)], delta=1e-5) == 0


@pytest.mark.parametrize("epsilon", [0.5, 8.0])
def test_the_noise_for_a_budget_keeps_it_and_spends_nearly_all(epsilon):
    noise = noise_multiplier_for(epsilon=epsilon, delta=1e-5, sampling_rate=0.2, steps=60)

    spent = spent_epsilon([Mechanism(noise, 0.2, 60)], delta=1e-5)
    assert 0.98 * epsilon < spent <= epsilon


def test_planned_noise_counts_steps_of_patients_and_rounds_of_sites():
    site = {
        "clip_norm": 1.0,
        "secure_aggregation": True,
        "threshold": 2,
        "differential_privacy": {"unit": "site", "epsilon": 8.0, "delta": 1e-2},
    }
    patient = PrivacyRules.model_validate({"differential_privacy": PATIENT})

    per_patient = with_noise(patient, rounds=6, steps_per_round=10).differential_privacy
    per_site = with_noise(
        PrivacyRules.model_validate(site), rounds=6, steps_per_round=10
    ).differential_privacy

    assert per_patient.noise_multiplier == noise_multiplier_for(
        epsilon=8.0, delta=1e-5, sampling_rate=0.1, steps=60
    )
    assert per_site.noise_multiplier == noise_multiplier_for(
        epsilon=8.0, delta=1e-2, sampling_rate=1.0, steps=6
    )


def test_stated_noise_and_studies_without_a_budget_stay_as_they_are():
    stated = PrivacyRules.model_validate(
        {"differential_privacy": PATIENT | {"noise_multiplier": 3}}
    )

    for rules in (stated, PrivacyRules()):
        assert with_noise(rules, rounds=6, steps_per_round=10) == rules
