"""The server's part of a study."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from segfed.rules import FederationRules, PrivacyRules, check_together


@pytest.mark.parametrize(
    ("rules", "rate", "remembers"),
    [
        ({}, 1.0, False),
        ({"algorithm": "fedavgm"}, 1.0, True),
        ({"algorithm": "fedavgm", "server_momentum": 0.0}, 1.0, False),
        ({"algorithm": "fedadam"}, 0.1, True),
        ({"algorithm": "fedyogi", "server_momentum": 0.0}, 0.01, True),
        ({"algorithm": "fedadam", "server_learning_rate": 0.3}, 0.3, True),
        ({"algorithm": "scaffold"}, 1.0, True),
    ],
    ids=str,
)
def test_rate_and_memory_follow_from_the_algorithm(rules, rate, remembers):
    found = FederationRules.model_validate(rules)

    assert (found.server_rate, found.remembers) == (rate, remembers)


@pytest.mark.parametrize(
    "wrong",
    [
        {"minimum_sites": 1},
        {"trimmed_fraction": 0.5},
        {"server_momentum": 1.0},
        {"max_norm_ratio": 1.0},
        {"round_deadline_seconds": 0},
        {"clip_norm_ratio": 0},
        {"algorithm": "fedprox"},  # FedProx is proximal_mu, with any algorithm
        {"personal": ["encoder"]},
        {"personal": ["norm", "norm"]},
    ],
    ids=str,
)
def test_values_that_make_no_federation_are_refused(wrong):
    with pytest.raises(ValidationError):
        FederationRules.model_validate(wrong)


@pytest.mark.parametrize("aggregation", ["krum", "multi_krum"])
def test_krum_is_refused_where_fewer_than_2_f_plus_3_sites_may_remain(aggregation):
    for n_hostile, fewest in ((1, 5), (2, 7)):
        rules = {"aggregation": aggregation, "hostile_sites": n_hostile}
        FederationRules.model_validate(rules | {"minimum_sites": fewest})
        with pytest.raises(ValidationError, match=f"among {fewest} or more"):
            FederationRules.model_validate(rules | {"minimum_sites": fewest - 1})


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"algorithm": "scaffold", "aggregation": "median"}, "set that to 'mean'"),
        ({"weighting": "fedcostwavg", "aggregation": "trimmed_mean"}, "set that to 'mean'"),
        ({"weighting": "fedpidavg", "aggregation": "median"}, "weighting 'fedpidavg'"),
        ({"algorithm": "scaffold", "clip_norm_ratio": 1.0}, "which clip_norm_ratio shortens"),
        ({"personal": ["norm"], "clip_norm_ratio": 1.0}, "personal needs updates of full length"),
        ({"personal": ["norm"], "algorithm": "scaffold"}, "take 'fedavg', or remove personal"),
        ({"personal": ["head"], "algorithm": "fedavgm"}, "take 'fedavg', or remove personal"),
    ],
    ids=str,
)
def test_settings_of_which_one_undoes_the_other_are_refused(rules, named):
    for key in rules:
        FederationRules.model_validate({key: rules[key]})
    with pytest.raises(ValidationError, match=named):
        FederationRules.model_validate(rules)


def test_every_contradiction_is_named_at_once():
    rules = {"algorithm": "scaffold", "aggregation": "median", "clip_norm_ratio": 1.0}

    with pytest.raises(ValidationError, match=r"set that to 'mean'.*clip_norm_ratio shortens"):
        FederationRules.model_validate(rules)


MASKED = {"secure_aggregation": True, "threshold": 3, "clip_norm": 1.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"secure_aggregation": True},
        MASKED | {"clip_norm": None},
        MASKED | {"threshold": None},
        MASKED | {"threshold": 1},
        MASKED | {"clip_norm": 0},
        {"threshold": 3},
    ],
    ids=str,
)
def test_masks_need_a_threshold_and_a_range(wrong):
    PrivacyRules.model_validate(MASKED)
    with pytest.raises(ValidationError):
        PrivacyRules.model_validate(wrong)


@pytest.mark.parametrize(
    "rules",
    [
        {"aggregation": "median"},
        {"aggregation": "trimmed_mean"},
        {"aggregation": "krum", "minimum_sites": 5},
        {"clip_norm_ratio": 1.0},
        {"max_update_norm": 5.0},
        {"suspects": "drop"},
        {"algorithm": "scaffold"},
        {"weighting": "fedcostwavg"},
        {"weighting": "fedpidavg"},
        {"compression": "int8"},
    ],
    ids=str,
)
def test_what_needs_single_updates_is_refused_beside_secure_aggregation(rules):
    federation = FederationRules.model_validate(rules)

    check_together(federation, PrivacyRules())
    check_together(FederationRules(), PrivacyRules.model_validate(MASKED))
    with pytest.raises(ValueError, match=next(iter(rules))):
        check_together(federation, PrivacyRules.model_validate(MASKED))


@pytest.mark.parametrize("rules", [{"algorithm": "scaffold"}, {"personal": ["norm"]}], ids=str)
def test_what_needs_whole_updates_is_refused_beside_clipping(rules):
    federation = FederationRules.model_validate(rules)

    check_together(federation, PrivacyRules())
    with pytest.raises(ValueError, match=r"clip_norm of \[privacy\] shortens"):
        check_together(federation, PrivacyRules(clip_norm=1.0))
