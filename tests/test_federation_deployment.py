"""The server's process of a submitted study."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from functools import partial

import pytest
from flwr.app import Context, RecordDict

from federation import deployment
from federation.deployment import only_server
from segfed.errors import ConfigError, FederationError
from segfed.protocol import MANIFEST_KEY, SERVER_FOLDER_VARIABLE, ServerJob, StudyFolder
from tests.federation_samples import AddingAgent, manifest
from tests.federation_samples import run as simulate


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A submitted study without sites or starting weights."""
    monkeypatch.setenv(SERVER_FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(deployment, "end_with_parent", lambda: None)  # not this process
    folder = StudyFolder.of(tmp_path, manifest().sha256)
    folder.root.mkdir(parents=True)
    folder.job.write_text(ServerJob(manifest=manifest(), sites={}).model_dump_json())
    return folder


def run():
    """Call the server as Flower does."""
    config = {MANIFEST_KEY: manifest().sha256}
    deployment.app(None, Context(7, 0, {}, RecordDict(), config))


def test_a_run_that_fails_says_that_it_began_and_why_it_ended(study):
    with pytest.raises(Exception, match="cannot be read as weights"):
        run()

    assert study.begun.read_text() == "7\n"
    assert "start.safetensors cannot be read as weights" in study.problem.read_text()


def test_a_failure_that_nobody_foresaw_is_told_too(study, monkeypatch):
    def fail(*_args, **_kwargs):
        raise MemoryError("no room for 7 arrays")

    monkeypatch.setattr(deployment, "make_server_app", fail)
    with pytest.raises(MemoryError):
        run()

    assert study.problem.read_text() == "MemoryError: no room for 7 arrays\n"


def test_a_run_that_finds_its_study_taken_says_so(study, monkeypatch):
    monkeypatch.setattr(deployment, "only_server", partial(only_server, patience_seconds=0.0))
    with study.lock.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(FederationError, match="Another process works on"):
            run()

    assert "Another process works on" in study.problem.read_text()
    assert not study.begun.exists()


def test_a_study_goes_on_although_sites_left_since_its_last_round(study):
    simulate(study.root, {"north": AddingAgent(step=1), "south": AddingAgent(step=1)})

    run()  # the job names neither

    assert study.begun.exists()
    assert not study.problem.exists()


def test_a_study_that_nobody_submitted_is_refused(study):
    study.job.unlink()

    with pytest.raises(ConfigError, match="No submitted study at"):
        run()


def test_two_processes_never_write_one_run(study, monkeypatch):
    monkeypatch.setattr(deployment, "_PAUSE_SECONDS", 0.01)
    with study.lock.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        refused = pytest.raises(FederationError, match="Another process works on")
        with refused, only_server(study.lock, patience_seconds=0.05):
            pass

    with only_server(study.lock, patience_seconds=0.0):
        pass


def test_a_server_waits_for_the_end_of_the_one_before(study, monkeypatch):
    handle = study.lock.open("ab")
    fcntl.flock(handle, fcntl.LOCK_EX)
    monkeypatch.setattr(deployment.time, "sleep", lambda _: handle.close())

    with only_server(study.lock):
        assert handle.closed


SERVER = """
import time
from federation.deployment import end_with_parent
end_with_parent()
print("begun", flush=True)
time.sleep(20)
print("still there", flush=True)
"""
STARTER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SERVER!r}])"


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_server_ends_with_a_killed_starter():
    command = [sys.executable, "-c", STARTER]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as starter:
        assert starter.stdout.readline() == b"begun\n"
        starter.kill()

        assert starter.stdout.read() == b""
