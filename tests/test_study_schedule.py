"""The plan of a run: what is kept, what is trained, what is left out, and how long it takes."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from segfed.files import write_text
from segfed.protocol import FederationState, RoundRecord
from segfed.run_files import METRICS_FILE, STATE_FILE
from segfed.sites import load_site, submit_label
from segfed.study.models import ModelId
from segfed.study.records import read_scores, read_study
from segfed.study.runner import plan_study, run_study
from tests.study_samples import block, make_settings, make_sites, pretend_federation


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A study of which the local models were run, then the whole; the folder of either."""
    root = tmp_path_factory.mktemp("study")
    make_sites(root)
    run(root, only=("local",))
    shutil.copytree(root / "run", root / "local-only")
    run(root)
    return root


def run(root, *, only=()):
    run_study(
        make_settings(root), out=root / "run", launch_federation=pretend_federation, only=only
    )


def plan(root, out="run", *, only=(), **changes):
    """The schedule, and the action of each model by its name."""
    schedule = plan_study(
        make_settings(root, **changes),
        out=root / out,
        launch_federation=pretend_federation,
        workers=2,
        only=only,
    ).schedule
    return schedule, {str(item.model): item for item in schedule.models}


def test_in_an_empty_folder_everything_is_trained_and_nobody_knows_how_long(parts):
    schedule, models = plan(parts, "elsewhere")

    assert Counter(item.action for item in models.values()) == {"train": 4, "build": 2}
    # 2 + 2 + 5 test cases
    assert {item.n_predictions for item in models.values()} == {9}
    assert schedule.expected_seconds is None
    assert not (parts / "elsewhere").exists()


def test_what_was_not_asked_for_is_left_out_and_recorded(parts):
    study = read_study(parts / "local-only")

    assert {model.regime for model in study.models} == {"untrained", "local"}
    assert {model.regime for model in study.not_run} == {"pooled", "federated", "ensemble"}
    assert {row.regime for row in read_scores(parts / "local-only/scores.csv")} == {
        "untrained",
        "local",
    }


def test_the_rest_is_trained_at_the_pace_that_was_measured(parts):
    schedule, models = plan(parts, "local-only")
    records = [m for m in read_study(parts / "local-only").models if m.regime == "local"]
    pace = sum(record.seconds / record.steps for record in records) / len(records)

    assert models["local a manual, seed 0"].action == "keep"
    assert models["local a manual, seed 0"].still_seconds == 0
    assert models["pooled manual, seed 0"].action == "train"
    assert models["pooled manual, seed 0"].seconds == pytest.approx(3 * pace)
    # Members are there, so that the ensemble only has to predict.
    assert (models["ensemble manual, seed 0"].action, schedule.expected_seconds > 0) == (
        "build",
        True,
    )


def test_a_finished_study_keeps_everything(parts):
    schedule, models = plan(parts)

    assert {item.action for item in models.values()} == {"keep", "build"}
    assert schedule.expected_seconds == 0
    assert len(read_study(parts / "run").not_run) == 0


def test_filters_leave_out_only_what_nobody_finished(parts):
    _, models = plan(parts, "local-only", only=("federated",))

    assert models["federated manual, seed 0"].action == "train"
    assert models["pooled manual, seed 0"].action == "leave out"
    assert models["ensemble manual, seed 0"].action == "leave out"
    assert models["local b manual, seed 0"].action == "keep"


def test_a_new_label_plans_only_what_learns_from_it(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "copy")
    site = load_site(tmp_path / "copy" / "a")
    submit_label(site, case_id="a-0", label=block(3), origin="manual", reader="manual-reader")

    _, models = plan(tmp_path / "copy")

    assert {name for name, item in models.items() if item.action == "train"} == {
        "local a manual, seed 0",
        "pooled manual, seed 0",
        "federated manual, seed 0",
    }


def test_a_federation_that_was_cut_short_has_only_its_other_rounds_to_go(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "copy")
    root = tmp_path / "copy"
    budget = make_settings(root).budget.model_copy(update={"rounds": 4})

    def die(job, *, on_round):
        record = RoundRecord(round=1, loss=1.0, validation_dice=None, sites={}, seconds=1.0)
        write_text(job.out / METRICS_FILE, record.model_dump_json() + "\n")
        state = FederationState(
            manifest_sha256=job.manifest.sha256, rounds_done=1, best_round=1, finished=False
        )
        write_text(job.out / STATE_FILE, state.model_dump_json())
        on_round(record)
        raise KeyboardInterrupt

    settings = make_settings(root, budget=budget, regimes=("federated",))
    with pytest.raises(KeyboardInterrupt):
        run_study(settings, out=root / "run", launch_federation=die)

    schedule, models = plan(root, budget=budget, regimes=("federated",))

    found = models["federated manual, seed 0"]
    assert found.action == "resume"
    # Three of four rounds of 2 steps at 2 sites, at the 1.5 s for 4 steps of the training before?
    # That one was deleted with its folder: nothing is known.
    assert (found.steps, found.seconds) == (16, None)
    assert schedule.included == (
        ModelId("untrained", "none", 0, "all"),
        ModelId("federated", "manual", 0, "all"),
    )
