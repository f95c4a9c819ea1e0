"""A small study, trained for real on the CPU; only the federation pretends."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress

import pytest
import torch

from segfed.errors import FederationError
from segfed.report.separation import image_separation
from segfed.sites import load_site, submit_label
from segfed.study import runner
from segfed.study.events import CaseScored, TrainingFinished
from segfed.study.records import read_labels, read_scores, read_study
from segfed.study.runner import run_study
from tests.study_samples import block, make_settings, make_sites, pretend_federation


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, whose folder tests must copy before they change it."""
    root = tmp_path_factory.mktemp("study")
    make_sites(root)
    run_study(make_settings(root), out=root / "run", launch_federation=pretend_federation)
    return root


@pytest.fixture
def root(finished):
    """The finished run's folder again, put back as it was after each test."""
    backup = finished.with_name(f"{finished.name}-backup")
    shutil.copytree(finished, backup)
    yield finished
    shutil.rmtree(finished)
    backup.rename(finished)


def again(root, **changes):
    """Run the study once more; returns what was trained and how often a case was scored."""
    events = []
    run_study(
        make_settings(root, **changes),
        out=root / "run",
        launch_federation=pretend_federation,
        on_event=events.append,
    )
    trained = [str(e.model) for e in events if isinstance(e, TrainingFinished) and not e.reused]
    # Several at once end in any order.
    return sorted(trained), sum(isinstance(e, CaseScored) for e in events)


def test_every_model_is_scored_on_every_test_case(finished):
    rows = read_scores(finished / "run" / "scores.csv")

    # Untrained, 2 local, pooled, ensemble and federated; 2 + 2 + 5 cases; 3 structures, 3 metrics
    # and 2 volumes.
    assert len(rows) == 6 * 9 * 3 * 5
    assert {row.regime for row in rows} == {
        "untrained",
        "local",
        "pooled",
        "ensemble",
        "federated",
    }
    assert {row.test_site for row in rows if row.external} == {"x"}


def test_a_federation_that_returns_its_start_scores_as_the_untrained_network(finished):
    rows = read_scores(finished / "run" / "scores.csv")
    values = {
        regime: [repr(row.value) for row in rows if row.regime == regime]
        for regime in ("untrained", "federated", "pooled")
    }

    assert values["federated"] == values["untrained"]
    assert values["pooled"] != values["untrained"]


def test_the_record_tells_settings_budget_versions_and_hashes(finished):
    study = read_study(finished / "run")

    # 1 round of 2 steps: 2 a local model, 2 x 2 over both sites; pooled was set to 3.
    assert study.budget_steps == {"local": 2, "pooled": 3, "ensemble": 4, "federated": 4}
    assert study.versions.keys() >= {"python", "segfed", "torch", "flwr"}
    assert {len(model.sha256) for model in study.models} == {64}
    assert [(site.name, site.external, site.n_test) for site in study.sites] == [
        ("a", False, 2),
        ("b", False, 2),
        ("x", True, 5),
    ]


def test_the_record_shows_that_training_and_testing_are_separate(finished):
    study = read_study(finished / "run")

    found = image_separation(finished / "run", study)

    # Sites a and b have 2 training, 1 validation and 2 test cases each, x has 5 test cases.
    assert found["is_shown"]
    assert found["n_images"] == {"train": 4, "validation": 2, "test": 9}
    assert [site.patients.total for site in study.sites] == [5, 5, 5]
    assert {case.reader for case in study.test_cases} == {"manual-reader"}


def test_models_whose_best_validation_was_their_last_are_named(finished):
    study = read_study(finished / "run")
    best_steps = {str(model.model_id): model.best_step for model in study.models}

    # One round is one validation, after the last step: 2 local, 3 pooled, 2 sites x 2 federated.
    assert best_steps == {
        "untrained, seed 0": None,
        "local a manual, seed 0": 2,
        "local b manual, seed 0": 2,
        "pooled manual, seed 0": 3,
        "federated manual, seed 0": 4,
        "ensemble manual, seed 0": None,
    }
    assert "local a manual, seed 0; local b manual, seed 0; pooled" in study.warnings[-1]
    assert "a gap of data" in study.warnings[-1]


def test_a_model_whose_best_validation_came_earlier_is_not_named(finished):
    models = [model for model in read_study(finished / "run").models if model.regime == "pooled"]

    earlier = [model.model_copy(update={"best_step": 2}) for model in models]

    assert list(runner.still_improving(earlier)) == []


def test_labels_of_all_training_cases_are_listed(finished):
    rows = read_labels(finished / "run" / "labels.csv")

    assert [(row.site, row.case, row.origin) for row in rows] == [
        ("a", "a-0", "manual"),
        ("a", "a-1", "manual"),
        ("b", "b-0", "manual"),
        ("b", "b-1", "manual"),
    ]
    assert {row.added_mm3 for row in rows} == {None}


def test_nothing_is_trained_or_predicted_twice(root):
    prediction = root / "run/predictions/pooled/manual/seed0/all/x/x-0.nii.gz"
    written_at = prediction.stat().st_mtime_ns
    before = (root / "run" / "scores.csv").read_bytes()

    trained, n_scored = again(root)

    assert trained == []
    assert n_scored == 6 * 9
    assert prediction.stat().st_mtime_ns == written_at
    assert (root / "run" / "scores.csv").read_bytes() == before


def test_a_new_label_trains_only_the_models_that_learn_from_it(root):
    site = load_site(root / "a")
    submit_label(site, case_id="a-0", label=block(3), origin="manual", reader="manual-reader")

    trained, _ = again(root)

    assert trained == [
        "federated manual, seed 0",
        "local a manual, seed 0",
        "pooled manual, seed 0",
    ]


def test_a_damaged_weights_file_is_made_again_and_equals_the_first(root):
    weights = root / "run/local/manual/seed0/b/model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(b"damaged")

    trained, _ = again(root)

    assert trained == ["local b manual, seed 0"]
    assert weights.read_bytes() == before


def test_a_federation_that_failed_goes_on_in_its_own_folder(tmp_path):
    make_sites(tmp_path)
    settings = make_settings(tmp_path, regimes=("federated",))

    def fail(job, *, on_round):
        del on_round
        (job.out / "round_001.safetensors").write_bytes(b"half way")
        raise FederationError("the machine went away")

    with pytest.raises(FederationError):
        run_study(settings, out=tmp_path / "run", launch_federation=fail)

    def go_on(job, *, on_round):
        assert (job.out / "round_001.safetensors").read_bytes() == b"half way"
        return pretend_federation(job, on_round=on_round)

    run_study(settings, out=tmp_path / "run", launch_federation=go_on)

    content = json.loads((tmp_path / "run/federated/manual/seed0/model.json").read_text())
    assert content["n_cases"] == 4


def test_another_version_of_a_package_computes_everything_again(root, monkeypatch):
    prediction = root / "run/predictions/untrained/none/seed0/all/x/x-0.json"
    key_before = json.loads(prediction.read_text())["key"]
    real = runner.importlib.metadata.version
    monkeypatch.setattr(
        runner.importlib.metadata,
        "version",
        lambda name: "0.0.1" if name == "monai" else real(name),
    )

    trained, _ = again(root)

    # Two local models, the pooled and the federated one; the untrained one is only scored again.
    assert len(trained) == 4
    assert json.loads(prediction.read_text())["key"] != key_before
    assert read_study(root / "run").versions["monai"] == "0.0.1"


def test_another_device_computes_everything_again(root, monkeypatch):
    monkeypatch.setattr(runner, "select_device", lambda _: torch.device("cpu", 0))

    trained, _ = again(root)

    assert len(trained) == 4
    assert read_study(root / "run").device == "cpu:0"


def test_a_renamed_study_begins_its_half_run_federation_anew(tmp_path):
    make_sites(tmp_path)

    def fail(job, *, on_round):
        del on_round
        (job.out / "round_001.safetensors").write_bytes(b"half way")
        raise FederationError("the machine went away")

    def start_anew(job, *, on_round):
        assert not (job.out / "round_001.safetensors").exists()
        return pretend_federation(job, on_round=on_round)

    for name, launch in (("first", fail), ("second", start_anew)):
        settings = make_settings(tmp_path, regimes=("federated",), name=name)
        with suppress(FederationError):
            run_study(settings, out=tmp_path / "run", launch_federation=launch)

    assert (tmp_path / "run/study.json").exists()


def test_the_mixed_arm_trains_on_half_of_either_kind_of_label(tmp_path):
    for site in make_sites(tmp_path)[:2]:
        for case in site.split("train"):
            submit_label(
                site, case_id=case.case_id, label=block(4), origin="ai_corrected", reader="ben"
            )
    settings = make_settings(
        tmp_path, regimes=("federated",), arms=("manual", "assisted", "mixed"), external_sites=()
    )
    asked = []

    def launch(job, *, on_round):
        asked.append(job.manifest.arm)
        return pretend_federation(job, on_round=on_round)

    run_study(settings, out=tmp_path / "run", launch_federation=launch)

    inputs = {
        arm: json.loads((tmp_path / f"run/federated/{arm}/seed0/inputs.json").read_text())
        for arm in settings.arms
    }
    for name in ("a", "b"):
        first, second = inputs["mixed"]["sites"][name]["train"]
        pairs = {arm: inputs[arm]["sites"][name]["train"] for arm in ("manual", "assisted")}
        assert {tuple(first), tuple(second)} & {tuple(pair) for pair in pairs["manual"]}
        assert {tuple(first), tuple(second)} & {tuple(pair) for pair in pairs["assisted"]}
    assert sorted(asked) == ["assisted", "manual", "mixed"]
    # Four cases with two labels each: none is listed again for the mixed arm.
    assert len(read_labels(tmp_path / "run/labels.csv")) == 8
