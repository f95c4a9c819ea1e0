"""Which models a study has, and where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from segfed.errors import ConfigError
from segfed.study.models import (
    ModelId,
    arm_choice,
    ensemble_models,
    trained_models,
    untrained_models,
    wanted_models,
)
from segfed.study.settings import Budget, StudySettings

SETTINGS = StudySettings(
    name="s",
    task="kidney_tumor",
    sites=(Path("a"), Path("b")),
    arms=("manual", "assisted"),
    seeds=(0, 1),
    budget=Budget(rounds=1, steps_per_round=1),
)


def test_every_arm_and_seed_trains_each_site_and_each_shared_regime():
    models = trained_models(SETTINGS, sites=("a", "b"))

    # 2 arms x 2 seeds x (2 local + 1 pooled + 1 federated); ensembles train nothing.
    assert len(models) == len(set(models)) == 16
    assert ModelId("local", "assisted", 1, "b") in models
    assert not any(model.regime == "ensemble" for model in models)


def test_there_is_one_ensemble_an_arm_and_seed_and_one_untrained_network_a_seed():
    assert len(ensemble_models(SETTINGS)) == 4
    assert [model.seed for model in untrained_models(SETTINGS)] == [0, 1]


def test_only_local_models_have_a_folder_for_their_site():
    assert ModelId("local", "manual", 3, "a").folder == Path("local/manual/seed3/a")
    assert ModelId("pooled", "manual", 3, "all").folder == Path("pooled/manual/seed3")


def test_a_model_in_words_names_what_tells_it_from_others():
    assert str(ModelId("local", "assisted", 1, "b")) == "local b assisted, seed 1"
    assert str(ModelId("untrained", "none", 0, "all")) == "untrained, seed 0"


def test_an_arm_that_names_no_labels_is_refused():
    assert arm_choice("mixed") == "mixed"
    with pytest.raises(ValueError, match="found arm 'none', expected one of manual"):
        arm_choice("none")


def wanted(*only):
    return wanted_models(SETTINGS, sites=("a", "b"), only=only)


def test_without_filters_every_model_is_wanted():
    # 2 arms x 2 seeds x (2 local + pooled + federated + ensemble)
    assert len(wanted()) == 20


def test_filters_of_one_kind_widen_and_of_another_narrow():
    chosen = wanted("federated", "regime=pooled", "arm=manual", "1")

    assert chosen == {
        ModelId("federated", "manual", 1, "all"),
        ModelId("pooled", "manual", 1, "all"),
    }


def test_a_site_leaves_its_local_models_only():
    assert {model.folder for model in wanted("site=a", "manual")} == {
        Path("local/manual/seed0/a"),
        Path("local/manual/seed1/a"),
    }


def test_an_ensemble_brings_the_models_that_it_averages():
    chosen = wanted("ensemble", "seed=0", "assisted")

    assert {model.regime for model in chosen} == {"ensemble", "local"}
    assert len(chosen) == 3


@pytest.mark.parametrize(
    ("only", "words"),
    [
        (("seed=7",), "seed=7 names nothing here; expected .* The study has: .* seed 0, 1;"),
        (("model=local",), "model=local names nothing here"),
        (("federated", "site=a"), "No model of study 's' fits --only federated --only site=a"),
    ],
)
def test_a_filter_that_leaves_nothing_says_what_the_study_has(only, words):
    with pytest.raises(ConfigError, match=words):
        wanted(*only)


def test_a_value_that_two_kinds_share_needs_its_kind():
    with pytest.raises(ConfigError, match="local names one value of regime and site"):
        wanted_models(SETTINGS, sites=("local", "b"), only=("local",))
