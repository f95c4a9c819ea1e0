"""A study across hospitals, as its owner writes it."""

from __future__ import annotations

import pytest

from segfed.cli.manifest_file import read_manifest
from segfed.engine import make_plan
from segfed.errors import ConfigError
from segfed.privacy import Mechanism, spent_epsilon
from segfed.sites import load_task
from tests.federation_samples import manifest
from tests.sites_samples import write_task

STUDY = """
study = "beans"
task = "bean.toml"
arm = "manual"
train_split = "train"
seed = 0
rounds = 3
steps_per_round = 2
"""


def write(folder, text):
    """The study's file, beside its task's."""
    write_task(folder)
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_a_study_in_toml_gets_the_plan_of_its_task(tmp_path):
    read = read_manifest(write(tmp_path, STUDY))

    plan = make_plan(load_task(tmp_path / "bean.toml"))
    assert (read.task, read.plan) == ("bean", plan.model_dump(mode="json"))


def test_a_study_in_toml_may_change_the_plan_and_the_server_s_rules(tmp_path):
    changes = '[plan]\nfeatures = [8, 16]\n[federation]\nalgorithm = "fedavgm"\n'

    read = read_manifest(write(tmp_path, STUDY + changes))

    assert list(read.plan["features"]) == [8, 16]
    assert read.federation.algorithm == "fedavgm"


def test_a_study_in_toml_gets_the_noise_that_its_budget_needs(tmp_path):
    private = 'unit = "patient"\nepsilon = 8.0\ndelta = 1e-3\nclip_norm = 1.0\n'

    read = read_manifest(write(tmp_path, f"{STUDY}[privacy.differential_privacy]\n{private}"))

    noise = read.privacy.differential_privacy.noise_multiplier
    # 3 rounds of 2 steps, and everybody in each.
    assert 7.5 < spent_epsilon([Mechanism(noise, 1.0, 6)], delta=1e-3) <= 8


def test_a_complete_manifest_stays_as_it_is(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(manifest().model_dump_json())

    assert read_manifest(path) == manifest()


def test_a_misspelt_key_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'rounds'"):
        read_manifest(write(tmp_path, STUDY.replace("rounds = 3", "rouns = 3")))


def test_the_file_of_a_study_on_one_machine_is_told_apart(tmp_path):
    with pytest.raises(ConfigError, match=r"budget, sites belong to a study on one machine"):
        read_manifest(write(tmp_path, 'name = "beans"\nsites = ["a"]\n[budget]\nrounds = 3\n'))
