"""What of a study and a federation is logged."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from segfed.protocol import RoundRecord
from segfed.study.events import (
    Schedule,
    ScheduledModel,
    StudyChecked,
    TrainingAdvanced,
    TrainingFinished,
)
from segfed.study.models import ModelId
from segfed.study.records import read_study
from segfed.study.tracking import round_values, to_both, track_federation, track_study
from tests.agent_samples import bean_manifest
from tests.report_samples import write_run
from tests.study_samples import make_settings

# MLflow and its database layer warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def folder(tmp_path, mlflow_tables):
    """A run folder with a store."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mlflow.db").write_bytes(mlflow_tables)
    return tmp_path / "run"


LOCAL = ModelId("local", "manual", 0, "a")
GLOBAL = ModelId("federated", "manual", 0, "all")


def record(number=1, **changes):
    """A round of two sites, of which one was dropped."""
    fields = {
        "round": number,
        "loss": 0.5,
        "validation_dice": 0.7,
        "sites": {
            "a": {"dice_tumor": 0.7, "bytes_up": 10.0, "bytes_down": 40.0, "seconds": 3.0},
            "b": {"bytes_up": None, "bytes_down": 40.0},
        },
        "seconds": 4.0,
        "dropped": {"b": "train: no reply"},
    }
    return RoundRecord.model_validate(fields | changes)


def checked(action="train"):
    """The study's plan: both models are trained, or what else is done with them."""
    items = tuple(ScheduledModel(m, action, 2, None, 0, None) for m in (LOCAL, GLOBAL))
    return StudyChecked(Schedule(items, workers=1), 2, 2, {}, ())


def runs_of(folder):
    """Every run of a local store by its name; of two of one name the later."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, order_by=["attributes.start_time"])
    return {run.info.run_name: run for run in found}


def steps(folder, run, name):
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return [metric.step for metric in client.get_metric_history(run.info.run_id, name)]


def test_a_round_is_numbers_over_all_and_by_site():
    values = round_values(record())

    assert values["bytes_up"] == 10.0
    assert values["bytes_down"] == 80.0
    assert values["a/dice_tumor"] == 0.7
    assert (values["sites_dropped"], values["a/dropped"], values["b/dropped"]) == (1, 0, 1)


def test_a_study_is_a_run_with_one_below_for_each_model(tmp_path, folder):
    settings = make_settings(tmp_path)
    with track_study(settings, store="local", folder=folder) as tracker:
        tracker(checked())
        for step in (1, 2):
            tracker(TrainingAdvanced(LOCAL, step, 0.5 / step))
        tracker(TrainingFinished(LOCAL, reused=False, seconds=9.0))
        tracker(TrainingAdvanced(GLOBAL, 1, 0.5, record()))

    found = runs_of(folder)
    assert set(found) == {"small", "local a manual, seed 0", "federated manual, seed 0"}
    study, local, federated = (found[name] for name in sorted(found, reverse=True))
    assert study.data.params["budget.rounds"] == "1"
    assert local.data.params == {"regime": "local", "arm": "manual", "seed": "0", "train_site": "a"}
    assert steps(folder, local, "loss") == [1, 2]
    assert local.data.metrics["seconds_in_all"] == 9.0
    assert federated.data.metrics["a/dice_tumor"] == 0.7
    assert federated.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_nothing_logged_names_a_path_or_a_case(tmp_path, folder):
    settings = make_settings(tmp_path)
    with track_study(settings, store="local", folder=folder) as tracker:
        tracker(checked())
        tracker(TrainingAdvanced(GLOBAL, 1, 0.5, record()))

    for run in runs_of(folder).values():
        logged = {**run.data.params, **run.data.metrics}
        assert not [name for name, value in logged.items() if "/" in str(value)]


def test_a_study_that_is_run_again_logs_no_model_twice(tmp_path, folder):
    for action, reused in (("train", False), ("keep", True)):
        with track_study(make_settings(tmp_path), store="local", folder=folder) as tracker:
            tracker(checked(action))
            if not reused:
                tracker(TrainingAdvanced(LOCAL, 1, 0.5))
            tracker(TrainingFinished(LOCAL, reused=reused, seconds=9.0))

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_the_report_is_logged_with_its_figures_and_the_models_hashes(tmp_path, folder):
    write_run(tmp_path, dice=lambda *_: 0.5, cases={"a": 2, "b": 2}, external={})  # in `folder`
    study = read_study(folder)
    for name in ("report.html", "report.json"):
        (folder / name).write_text("a report")
    report = {"dice": {"federated": {"manual": {"tumor": {"mean": 0.5}, "mass": {"mean": None}}}}}
    with track_study(study.settings, store="local", folder=folder) as tracker:
        tracker(checked())
        tracker.add_report(report, folder)

    found = runs_of(folder)["hand-made"]
    assert found.data.metrics["dice/federated/manual/tumor"] == 0.5
    assert found.data.tags["plan_sha256"] == study.plan_sha256
    assert found.data.tags["weights_sha256.pooled/manual/seed0"] in {
        model.sha256 for model in study.models
    }
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    names = {artifact.path for artifact in client.list_artifacts(found.info.run_id)}
    assert names == {"report.html", "report.json"}


def test_a_federation_that_goes_on_logs_each_round_once(tmp_path, folder):
    manifest = bean_manifest(tmp_path)
    for last in (2, 3):  # a process that goes on tells of the earlier rounds first
        with track_federation(manifest, store="local", folder=folder) as log_round:
            for number in range(1, last + 1):
                log_round(record(number))

    run = runs_of(folder)["beans"]
    assert steps(folder, run, "validation_dice") == [1, 2, 3]
    assert run.data.params["manifest_sha256"] == manifest.sha256
    assert run.data.params["federation.algorithm"] == "fedavg"


def test_without_a_store_nothing_is_logged(tmp_path):
    with track_study(make_settings(tmp_path), store=None, folder=tmp_path) as tracker:
        assert tracker is None
    with track_federation(bean_manifest(tmp_path), store=None, folder=tmp_path) as log_round:
        log_round(record())

    assert not (tmp_path / "mlflow.db").exists()


def test_two_listeners_hear_every_event():
    heard = []

    to_both(heard.append, heard.append)("event")
    to_both(heard.append, None)("another")

    assert heard == ["event", "event", "another"]
