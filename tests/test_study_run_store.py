"""Runs in an MLflow store, read back with MLflow's own client."""

from __future__ import annotations

import logging

import pytest
from mlflow import MlflowClient

from segfed.errors import ConfigError
from segfed.study.run_store import RunStore, Store, find_store

# MLflow and its database layer warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def store(tmp_path, mlflow_tables):
    (tmp_path / "mlflow.db").write_bytes(mlflow_tables)
    return find_store("local", beside=tmp_path)


def open_runs(store):
    return RunStore(store, experiment="beans")


def begin(runs, **changes):
    return runs.run(**({"key": "k", "name": "a model", "params": {"seed": "0"}} | changes))


def stored(store):
    """The runs in a store, the first one first."""
    client = MlflowClient(store.uri)
    experiment = client.get_experiment_by_name("beans")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def history(store, run, name):
    found = MlflowClient(store.uri).get_metric_history(run.info.run_id, name)
    return [(metric.step, metric.value) for metric in found]


def test_a_run_holds_its_settings_and_each_step(store):
    with open_runs(store) as runs:
        run = begin(runs)
        run.log({"loss": 0.5, "dice": None}, step=1)
        run.log({"loss": 0.25}, step=2)

    (found,) = stored(store)
    assert (found.info.run_name, found.info.status) == ("a model", "FINISHED")
    assert found.data.params == {"seed": "0"}
    assert history(store, found, "loss") == [(1, 0.5), (2, 0.25)]
    assert "dice" not in found.data.metrics


def test_many_settings_are_logged(store):
    with open_runs(store) as runs:
        begin(runs, params={f"p{number}": "x" for number in range(250)})

    assert len(stored(store)[0].data.params) == 250


def fail(store, error):
    """One step, and then an error."""
    with open_runs(store) as runs:
        begin(runs).log({"loss": 0.5}, step=1)
        raise error


def test_a_run_that_was_cut_short_goes_on_and_no_step_is_there_twice(store):
    with pytest.raises(KeyboardInterrupt):
        fail(store, KeyboardInterrupt())
    assert stored(store)[0].info.status == "KILLED"

    with open_runs(store) as runs:
        for step in (1, 2):
            begin(runs).log({"loss": 0.5}, step=step)

    (found,) = stored(store)
    assert found.info.status == "FINISHED"
    assert [step for step, _ in history(store, found, "loss")] == [1, 2]


def test_what_begins_anew_is_a_run_of_its_own(store):
    left = open_runs(store)  # as a process that was killed leaves it
    begin(left).log({"loss": 0.5}, step=1)

    with open_runs(store) as runs:
        begin(runs, goes_on=False).log({"loss": 0.25}, step=1)

    assert [run.info.status for run in stored(store)] == ["KILLED", "FINISHED"]


def test_an_error_in_the_block_is_the_run_s_failure(store):
    with pytest.raises(ValueError, match="training"):
        fail(store, ValueError("training"))

    assert stored(store)[0].info.status == "FAILED"


def test_a_run_may_belong_to_another(store):
    with open_runs(store) as runs:
        begin(runs, key="study")
        begin(runs, parent="study")

    study, model = stored(store)
    assert model.data.tags["mlflow.parentRunId"] == study.info.run_id


def test_a_file_is_attached_in_a_local_store_only(store, tmp_path):
    (tmp_path / "report.html").write_text("a report")
    with open_runs(store) as runs:
        begin(runs)
        runs.attach("k", tmp_path / "report.html")
    server = RunStore(Store(store.uri, None), experiment="beans")
    with server:
        begin(server, key="other")
        server.attach("other", tmp_path / "report.html")

    client = MlflowClient(store.uri)
    names = [[a.path for a in client.list_artifacts(run.info.run_id)] for run in stored(store)]
    assert names == [["report.html"], []]


def test_a_store_that_fails_costs_one_warning(tmp_path, caplog):
    (tmp_path / "no-folder").write_text("a file where the folder should be")
    runs = open_runs(find_store("local", beside=tmp_path / "no-folder"))

    with caplog.at_level(logging.WARNING, logger="segfed"), runs:
        for step in (1, 2):
            runs.attempt(lambda step=step: begin(runs).log({"loss": 0.5}, step=step))

    warnings = [r for r in caplog.records if r.name == "segfed.study.run_store"]
    assert len(warnings) == 1
    assert "the training goes on" in warnings[0].getMessage()


@pytest.mark.parametrize("name", ["runs", "file:///runs", ""])
def test_what_is_no_store_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="expected 'local'"):
        find_store(name, beside=tmp_path)


def test_a_server_is_a_store_that_is_sent_no_file(tmp_path):
    assert find_store("https://mlflow.example", beside=tmp_path).artifacts is None
