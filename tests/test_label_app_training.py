"""Slicer's train button: what Slicer asks, and what becomes of the process behind it."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest
from fastapi import FastAPI

from label_app import training
from label_app.training import FineTuner, TrainingJob
from segfed.files import write_json
from segfed.sites import submit_label
from segfed.study.fine_tune import WORK_FOLDER
from tests.asgi_samples import Client
from tests.sites_samples import make_label, make_site

SLEEP = "import time; print('epoch one', flush=True); time.sleep(60)"


@pytest.fixture
def site(tmp_path):
    site = make_site(tmp_path)
    submit_label(
        site,
        case_id="case0",
        label=make_label(),
        origin="manual",
        reader="ann",
        status="approved",
    )
    (site.folder / "cache").mkdir()
    return site


@pytest.fixture
def job(site, monkeypatch):
    """A job whose process runs what `script` says."""
    job = TrainingJob(site.folder, device="cpu")
    job.script = SLEEP
    monkeypatch.setattr(job, "_command", lambda *_: (sys.executable, "-c", job.script))
    yield job
    job.stop()


@pytest.fixture
def client(job, monkeypatch):
    app = SimpleNamespace(training=job, info=lambda: {"trainers": {"bean": {}}})
    monkeypatch.setattr(training, "app_instance", lambda: app)
    served = FastAPI()
    served.include_router(training.router)
    return Client(served)


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited for 30 seconds"
        time.sleep(0.02)


def test_without_a_training_there_is_no_task(client):
    assert client.get("/train/").status_code == 404
    assert client.get("/train/", params={"check_if_running": True}).status_code == 404
    assert client.request("DELETE", "/train/").json() is None


def test_slicer_starts_watches_and_stops_a_training(client):
    begun = client.post("/train/bean", json={"minutes": 5, "labels": "manual", "client_id": "x"})
    again = client.post("/train/bean")
    until(lambda: "epoch one" in client.get("/train/").json()["details"])
    running = client.get("/train/", params={"check_if_running": True})
    stopped = client.request("DELETE", "/train/").json()

    assert begun.status_code == running.status_code == 200
    task = begun.json()
    assert (task["status"], again.status_code) == ("RUNNING", 429)
    assert task["request"] == {"model": "bean", "minutes": 5, "labels": "manual"}
    # Slicer reads the last of them without looking whether there is one.
    assert task["details"]
    assert (stopped["id"], stopped["status"]) == (task["id"], "STOPPED")
    assert stopped["start_ts"] <= stopped["end_ts"]
    assert client.get("/train/", params={"check_if_running": True}).status_code == 404
    assert client.get("/train/").json()["status"] == "STOPPED"


@pytest.mark.parametrize(("code", "status"), [(0, "DONE"), (1, "ERROR")])
def test_the_exit_code_tells_how_a_training_ended(client, job, code, status):
    job.script = f"import sys; print('the end'); sys.exit({code})"
    client.post("/train/bean")
    until(lambda: not job.is_running)

    task = client.get("/train/").json()

    assert task["status"] == status
    assert task["details"] == ["the end", f"{status}."]
    assert client.post("/train/bean").status_code == 200, "another one may follow"


def test_a_killed_training_is_an_error_and_not_a_running_one(client, job):
    client.post("/train/bean")
    os.kill(job._process.pid, signal.SIGKILL)

    until(lambda: not job.is_running)

    assert client.get("/train/").json()["status"] == "ERROR"


def test_what_would_stop_a_training_is_said_before_it_starts(client, site):
    site.case("case0").channels["t1"].write_bytes(b"x")

    refused = client.post("/train/bean")

    assert refused.status_code == 422
    assert "case0: the image has the hash" in refused.json()["detail"]
    assert client.get("/train/").status_code == 404


def test_labels_that_nobody_approved_are_refused_in_words(client):
    refused = client.post("/train/bean", json={"labels": "assisted"})

    assert refused.status_code == 422
    assert "none of them has an approved assisted label" in refused.json()["detail"]


@pytest.mark.parametrize("wishes", [{"minutes": 0}, {"minutes": 1e9}, {"labels": "../x"}])
def test_wishes_have_limits(client, wishes):
    assert client.post("/train/bean", json=wishes).status_code == 422


def test_an_unknown_trainer_is_not_there(client):
    unknown = client.post("/train/kidney")

    assert unknown.status_code == 404
    assert "expected bean" in unknown.json()["detail"]


def test_progress_reaches_slicers_bars(client, job, site):
    assert FineTuner(job).stats() == {}
    client.post("/train/bean")
    state = {"inputs_sha256": "", "step": 30, "total_steps": 120, "start_dice": 0.5}
    write_json(site.folder / WORK_FOLDER / "state.json", state | {"best_dice": 0.625})

    assert FineTuner(job).stats() == {"epoch": 30, "total_epochs": 120, "best_metric": 0.625}
    assert client.get("/train/").json()["details"][-1] == (
        "RUNNING: step 30 of 120, validation Dice 0.500 before, best so far 0.625"
    )


def test_a_dice_that_was_not_measured_is_left_out(client, job, site):
    client.post("/train/bean")
    state = {"inputs_sha256": "", "step": 3, "total_steps": 12, "start_dice": None}
    write_json(site.folder / WORK_FOLDER / "state.json", state)

    # Slicer would multiply a null.
    assert "best_metric" not in FineTuner(job).stats()


def test_the_process_trains_at_low_priority_and_publishes(site):
    command = TrainingJob(site.folder, device="cpu")._command(site, training.Wishes(minutes=7))

    assert command[:3] == ("nice", "-n", "10")
    assert command[6:] == (
        *("train", str(site.folder), "--publish"),
        *("--minutes", "7.0", "--arm", "mixed", "--device", "cpu"),
    )
