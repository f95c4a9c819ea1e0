"""``segfed train`` as a person and as a program call it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from segfed.cli.main import app
from segfed.errors import TrainingError
from segfed.study import current_model
from tests.study_samples import approve, make_site, publish_start


def train(site, *options):
    arguments = ["train", str(site.folder), "--device", "cpu", *options]
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def site(tmp_path):
    site = make_site(tmp_path, "a", seed=1)
    publish_start(site, tmp_path)
    return site


def test_the_summary_says_what_was_trained_on_and_what_it_brought(site):
    approve(site, 0)

    done = train(site, "--steps", "1", "--publish")

    assert done.exit_code == 0
    assert "1 steps from model" in done.stdout
    assert "on 1 cases (1 manual)" in done.stdout
    assert "No validation case has an approved label" in done.stdout
    assert f"now proposes with model {current_model(site).name}" in done.stdout


def test_a_program_gets_json(site, tmp_path):
    served = current_model(site)
    done = train(
        site, "--steps", "1", "--include-submitted", "--json", "--out", str(tmp_path / "new")
    )

    result = json.loads(done.stdout)
    assert (result["n_train"], result["n_validation"]) == (2, 1)
    assert result["state"]["total_steps"] == 1
    assert result["published"] is None
    assert current_model(site) == served
    assert (tmp_path / "new").exists() == result["is_better"]


def test_labels_that_nobody_approved_are_an_error(site):
    assert isinstance(train(site, "--publish").exception, TrainingError)


@pytest.mark.parametrize(
    "options", [["--steps", "1"], ["--publish", "--steps", "1", "--minutes", "1"]]
)
def test_a_contradiction_is_wrong_usage(site, options):
    assert train(site, *options).exit_code == 2


def test_a_model_for_clicks_is_trained_and_named(site):
    approve(site, 0)

    done = train(site, "--clicks", "tumor", "--steps", "1", "--publish")

    assert done.exit_code == 0
    name = current_model(site, clicks=True).name
    assert f"now helps with clicks on tumor by model {name}" in done.stdout
    listed = CliRunner().invoke(app, ["model", "list", str(site.folder), "--json"])
    assert [row["current"] for row in json.loads(listed.stdout)] == [True, True]
