"""A federation in a process of its own: its failures become one paragraph here."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segfed.cli.launch import launch_federation
from segfed.engine import make_plan
from segfed.errors import FederationError
from segfed.protocol import FederationJob, Manifest
from segfed.sites import load_task


def make_job(tmp_path):
    """A job whose sites do not exist."""
    manifest = Manifest(
        study="s",
        task="kidney_tumor",
        plan=make_plan(load_task("kidney_tumor")).model_dump(mode="json"),
        arm="manual",
        train_split="train",
        seed=0,
        rounds=1,
        steps_per_round=1,
    )
    return FederationJob(
        manifest=manifest,
        sites=(tmp_path / "no-site", tmp_path / "none-either"),
        initial_weights=tmp_path / "absent.safetensors",
        out=tmp_path / "out",
    )


def stand_in(path, *commands):
    """A program that is started in place of the federation's Python."""
    path.write_text("\n".join(["#!/bin/sh", *commands, ""]))
    path.chmod(0o755)
    return str(path)


def test_a_federation_that_cannot_start_says_why_and_where_its_log_is(tmp_path):
    job = make_job(tmp_path)

    with pytest.raises(FederationError, match=r"exit code 1 .*no-site.*run the command again"):
        launch_federation(job, on_round=print)

    assert "Traceback" not in (tmp_path / "out" / "federation.log").read_text()


def test_a_line_that_is_no_record_is_explained(tmp_path, monkeypatch):
    program = stand_in(tmp_path / "noisy", "echo a notice")
    monkeypatch.setattr("segfed.cli.launch.sys.executable", program)

    with pytest.raises(FederationError, match=r"wrote b'a notice\\n', expected the record"):
        launch_federation(make_job(tmp_path), on_round=print)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_federation_dies_with_its_parent(tmp_path):
    pid_file, job_file = tmp_path / "pid", tmp_path / "job.json"
    program = stand_in(
        tmp_path / "slow",
        f"echo $$ > {pid_file}.new",
        f"mv {pid_file}.new {pid_file}",
        "exec sleep 300",
    )
    job_file.write_text(make_job(tmp_path).model_dump_json())
    code = (
        "import sys; from pathlib import Path; from segfed.cli.launch import launch_federation;"
        "from segfed.protocol import FederationJob;"
        "job = FederationJob.model_validate_json(Path(sys.argv[1]).read_bytes());"
        "sys.executable = sys.argv[2];"
        "launch_federation(job, on_round=print)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(job_file), program]) as parent:
        until(pid_file.exists)
        parent.send_signal(signal.SIGKILL)

    child = int(pid_file.read_text())
    until(lambda: not is_running(child))


def until(condition):
    """Wait for a condition, for a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(pid):
    """Whether a process lives; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
