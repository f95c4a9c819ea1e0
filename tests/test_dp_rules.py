"""Differential privacy as a study states it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from segfed.dp_rules import DifferentialPrivacy, statement
from segfed.rules import FederationRules, PrivacyRules, check_together

PATIENT = {"unit": "patient", "epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0}
SITE = {"unit": "site", "epsilon": 8.0, "delta": 1e-2}
MASKED = {"secure_aggregation": True, "threshold": 3, "clip_norm": 1.0}


@pytest.mark.parametrize(
    "wrong",
    [
        PATIENT | {"clip_norm": None},
        PATIENT | {"sampling_rate": 1.5},
        PATIENT | {"delta": 0.5},
        PATIENT | {"epsilon": 0},
        PATIENT | {"unit": "case"},
        SITE | {"clip_norm": 1.0},
        SITE | {"sampling_rate": 0.5},
    ],
    ids=str,
)
def test_what_is_no_promise_of_its_unit_is_refused(wrong):
    with pytest.raises(ValidationError):
        DifferentialPrivacy.model_validate(wrong)


def test_noise_is_drawn_in_each_step_for_patients_and_in_each_round_for_sites():
    patient, site = (DifferentialPrivacy.model_validate(rules) for rules in (PATIENT, SITE))

    assert patient.planned_steps(rounds=3, steps_per_round=5) == 15
    assert site.planned_steps(rounds=3, steps_per_round=5) == 3
    assert (patient.steps_of_round(5), site.steps_of_round(5)) == (5, 1)


@pytest.mark.parametrize(
    ("private", "federation", "named"),
    [
        (SITE, {"weighting": "cases"}, "weighting 'cases'"),
        (SITE, {"weighting": "steps"}, "weighting 'steps'"),
    ],
    ids=str,
)
def test_a_bound_that_the_weighting_breaks_is_refused(private, federation, named):
    rules = PrivacyRules.model_validate(MASKED | {"differential_privacy": private})

    check_together(FederationRules(weighting="sites"), rules)
    with pytest.raises(ValueError, match=named):
        check_together(FederationRules.model_validate(federation), rules)


def test_single_updates_are_not_shown_where_the_noise_is_made_for_their_sum():
    rules = PrivacyRules.model_validate({"clip_norm": 1.0, "differential_privacy": SITE})

    with pytest.raises(ValueError, match="secure_aggregation"):
        check_together(FederationRules(weighting="sites"), rules)


def test_a_clock_must_not_decide_the_number_of_steps():
    rules = PrivacyRules.model_validate({"differential_privacy": PATIENT})

    check_together(FederationRules(), rules)
    with pytest.raises(ValueError, match="seconds_per_round"):
        check_together(FederationRules(), rules, seconds_per_round=60.0)


def test_noise_at_the_patients_goes_with_every_rule_of_the_server_and_with_masks():
    rules = PrivacyRules.model_validate(MASKED | {"differential_privacy": PATIENT})

    for algorithm in ("fedavgm", "fedadam"):
        check_together(FederationRules(algorithm=algorithm, proximal_mu=0.1), rules)


@pytest.mark.parametrize("rules", [PATIENT, SITE], ids=lambda rules: rules["unit"])
def test_a_statement_names_unit_budget_mechanism_and_what_is_not_covered(rules):
    private = DifferentialPrivacy.model_validate(rules | {"noise_multiplier": 1.25})

    text = " ".join(statement(private, epsilon=7.98765))

    # Rounded up: it must not promise more than is kept.
    for said in ("(7.988,", rules["unit"], "noise multiplier 1.25", "Assumed:", "Not covered:"):
        assert said in text


def test_weights_follow_the_weighting():
    counted = {
        weighting: FederationRules(weighting=weighting).count(n_cases=7, steps=3.0)
        for weighting in ("cases", "steps", "sites")
    }

    assert counted == {"cases": 7, "steps": 3, "sites": 1}
    assert FederationRules(weighting="sites").max_count(steps_per_round=9) == 1
