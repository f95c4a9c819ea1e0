"""What each profile scores, as its challenge defines it."""

from __future__ import annotations

import math

import pytest

from segfed.errors import ConfigError
from segfed.evaluation import DEFINITIONS, PROFILES, find_profile
from segfed.evaluation.profiles import undefined_reason
from segfed.sites import load_task


def test_the_kits23_classes_are_nested_and_have_their_own_tolerances():
    profile = find_profile("kits23")

    assert profile.structures == {"kidney_and_mass": (1, 2, 3), "mass": (2, 3), "tumor": (2,)}
    assert profile.tolerance_mm == {
        "kidney_and_mass": 1.0330772532390826,
        "mass": 1.1328796488598762,
        "tumor": 1.1498198361434828,
    }


def test_kits19_knows_no_cyst():
    assert find_profile("kits19").structures == {"foreground": (1, 2), "tumor": (2,)}
    assert find_profile("kits19").label_values == {1, 2}


def test_brats2024_keeps_the_low_threshold_for_the_resection_cavity():
    rules = find_profile("brats2024-gli").lesion_rules

    low = {structure for structure, rule in rules.items() if rule.minimum_mm3 == 10}
    assert low == {"enhancing_tumor", "resection_cavity"}
    assert {rules[name].minimum_mm3 for name in rules.keys() - low} == {20}


def test_the_generic_profile_scores_a_task():
    task = load_task("brain_tumor")

    profile = find_profile("generic", task=task)

    assert profile.structures == task.structures
    assert profile.tolerance_mm == task.tolerance_mm


def test_the_generic_profile_without_a_task_scores_each_value_at_two_mm():
    profile = find_profile("generic", values={0, 5, 2})

    assert profile.structures == {"label_2": (2,), "label_5": (5,)}
    assert profile.tolerance_mm == {"label_2": 2.0, "label_5": 2.0}


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'kits21'; known: generic, kits19, kits23, brats2023"):
        find_profile("kits21")


@pytest.mark.parametrize("name", PROFILES)
def test_every_metric_is_defined_and_every_structure_has_what_its_metrics_need(name):
    profile = PROFILES[name]

    assert set(profile.metrics) <= DEFINITIONS.keys()
    assert profile.tolerance_mm.keys() == profile.structures.keys()
    if "lesion_dice" in profile.metrics:
        assert profile.lesion_rules.keys() == profile.structures.keys()
    assert {value for values in profile.structures.values() for value in values} == (
        profile.label_values
    )


def test_a_score_that_is_no_number_has_a_reason():
    assert undefined_reason("dice", 0.5) is None
    assert "empty in both" in (undefined_reason("dice", math.nan) or "")
    assert "empty in one" in (undefined_reason("hd95_mm", math.inf) or "")
