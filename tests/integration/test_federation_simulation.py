"""The federation as a real process: its output, and what a kill in the middle costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segfed.agent import AUDIT_FILE, read_audit
from segfed.protocol import FederationJob, FederationState, RoundRecord
from tests.agent_samples import bean_manifest, labelled_site, start_weights

ROUNDS = 4


def make_job(folder: Path) -> Path:
    """Two sites and a study of them, in a folder of their own; the same bytes in every folder."""
    folder.mkdir()
    # A server with a memory, and sites that owe something: a resumed run needs more than weights.
    rules = {"algorithm": "fedavgm", "compression": "int4"}
    manifest = bean_manifest(folder, rounds=ROUNDS, federation=rules)
    (folder / "start.safetensors").write_bytes(start_weights(manifest))
    job = FederationJob(
        manifest=manifest,
        sites=tuple(labelled_site(folder, name=name).folder for name in ("north", "southern")),
        initial_weights=folder / "start.safetensors",
        out=folder / "run",
        device="cpu",
    )
    path = folder / "job.json"
    path.write_text(job.model_dump_json())
    return path


def start(job: Path) -> subprocess.Popen[str]:
    """The federation's process."""
    command = [sys.executable, "-m", "federation.simulation", str(job)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def finish(job: Path) -> list[RoundRecord]:
    """Run a job to its end."""
    with start(job) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return [RoundRecord.model_validate_json(line) for line in out.splitlines()]


def comparable(record: RoundRecord) -> dict[str, object]:
    """What depends on neither the clock nor a kill.

    The sites' audit logs hold the time of each line, and a server that starts anew sends the whole
    model to sites that have it.
    """
    content = record.model_dump()
    del content["seconds"]
    del content["audit_heads"]
    for site in content["sites"].values():
        del site["seconds"], site["bytes_down"]
    return content


def await_file(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Wait until a file is there, as long as the process that writes it lives."""
    end = time.monotonic() + 300
    while not any(folder.glob(pattern)):
        assert process.poll() is None, f"the process ended before it wrote {pattern}"
        assert time.monotonic() < end, f"{pattern} did not appear"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The run folder and the records of a run that nobody disturbed."""
    job = make_job(tmp_path_factory.mktemp("whole") / "study")
    return job.parent, finish(job)


def test_every_round_is_reported_in_order_and_all_bytes_of_weights_are_audited(unbroken):
    folder, records = unbroken

    assert [record.round for record in records] == [1, 2, 3, 4]
    state = FederationState.model_validate_json((folder / "run" / "state.json").read_bytes())
    assert (state.rounds_done, state.finished) == (ROUNDS, True)
    entries = read_audit(folder / "north" / AUDIT_FILE)
    assert [entry.kind for entry in entries] == ["train", "validate"] * ROUNDS


@pytest.mark.parametrize(
    "moment",
    [
        "run/round_001.safetensors",  # between the files of a round
        "run/memory_002.safetensors",
        "southern/cache/jobs/*/train_003.safetensors",  # while a site stores its update
    ],
)
def test_a_killed_run_ends_with_the_very_weights_of_an_unbroken_one(tmp_path, unbroken, moment):
    job = make_job(tmp_path / "study")
    with start(job) as process:
        await_file(job.parent, moment, process)
        process.send_signal(signal.SIGKILL)

    records = finish(job)

    whole, expected = unbroken
    last = f"run/round_{ROUNDS:03d}.safetensors"
    assert (job.parent / last).read_bytes() == (whole / last).read_bytes()
    assert [comparable(record) for record in records] == [comparable(item) for item in expected]


def test_a_process_whose_reader_is_gone_stops_after_a_finished_round(tmp_path):
    job = make_job(tmp_path / "study")
    with start(job) as process:
        assert process.stdout is not None
        process.stdout.close()
        code = process.wait(timeout=300)

    assert code == 1
    state = json.loads((job.parent / "run" / "state.json").read_text())
    assert state["rounds_done"] == 1
