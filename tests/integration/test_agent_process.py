"""A site's agent as a process: approved, killed, started again, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import httpx
import pytest

from federation.agent_socket import SocketAgent
from segfed.agent.signing import sign
from segfed.protocol import AgentError, AgentErrorCode
from tests.agent_samples import bean_manifest, job, labelled_site, make_agent, make_owner, trust
from tests.socket_samples import short_folder, until

# Long enough to be killed in: seconds on any machine.
MANY_STEPS = 150
COMMAND = (sys.executable, "-c", "from segfed.cli import main; main()", "federate")


@pytest.fixture
def socket_path():
    with short_folder() as folder:
        yield folder / "north.sock"


@contextlib.contextmanager
def agent_process(site, path):
    """The agent's command, running; yields the process once it listens."""
    command = (*COMMAND, "agent", str(site.folder), "--socket", str(path), "--device", "cpu")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: process.poll() is not None or greeting(path) is not None)
            yield process
        finally:
            process.kill()


def greeting(path):
    """What the agent says of itself; None while it does not answer."""
    if not path.exists():
        return None
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            return client.get("http://agent/").json()
    except httpx.TransportError:
        return None


def decide(site, signed_file, *options):
    command = (*COMMAND, "approve", str(site.folder), str(signed_file), "--yes", *options)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def write_signed(path, signed):
    path.write_text(signed.model_dump_json())
    return path


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as httpcore does
def test_an_agent_killed_at_work_gives_the_same_update_after_its_restart(tmp_path, socket_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path, steps_per_round=MANY_STEPS)
    request = job(manifest, ttl_seconds=300)
    twin = tmp_path / "twin"
    shutil.copytree(site.folder, twin)
    key = make_owner(tmp_path)
    trust(site.folder, key)
    signed = write_signed(tmp_path / "signed.json", sign(manifest, key))
    replies = []
    relay = threading.Thread(
        target=lambda: replies.append(SocketAgent(socket_path).answer(request))
    )

    shown = decide(site, signed)
    with agent_process(site, socket_path) as process:
        relay.start()
        until(lambda: greeting(socket_path)["busy"])
        process.kill()
        process.wait()
    assert not list((site.folder / "cache").glob("jobs/*/train.json"))
    with agent_process(site, socket_path) as process:
        relay.join(300)
        again = SocketAgent(socket_path).answer(request)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with agent_process(site, socket_path):
        from_store = SocketAgent(socket_path).answer(request)

    assert shown.returncode == 0, shown.stderr
    assert "Approved by" in shown.stdout
    # The relay waited out the restart; training again would take another number of seconds.
    assert replies == [again] == [from_store]
    assert not socket_path.exists() or greeting(socket_path) is None
    unbroken = make_agent(type(site)(twin, site.settings, site.task, site.cases), manifest)
    assert replies[0].weights == unbroken.answer(request).weights


def test_an_agent_refuses_what_is_unapproved_and_stops_in_the_middle_of_a_job(
    tmp_path, socket_path
):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path, steps_per_round=MANY_STEPS)
    key = make_owner(tmp_path)
    trust(site.folder, key)
    signed = sign(manifest, key)
    longer = signed.model_copy(update={"manifest": manifest.model_copy(update={"rounds": 9})})
    altered = decide(site, write_signed(tmp_path / "altered.json", longer))

    with agent_process(site, socket_path) as process:
        with pytest.raises(AgentError) as refused:
            SocketAgent(socket_path).answer(job(manifest, ttl_seconds=60))
        approved = decide(site, write_signed(tmp_path / "signed.json", signed))
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket_path)), base_url="http://agent"
        ) as client:
            query = {"manifest": manifest.sha256, "round": 1, "verb": "train"}
            state = client.post("/v1/jobs", params=query, content=job(manifest).weights).json()
        process.send_signal(signal.SIGINT)
        code, story = process.wait(60), process.stdout.read()

    assert altered.returncode == 1
    assert "not as a trusted owner signed it" in " ".join(altered.stderr.split())
    assert refused.value.code == AgentErrorCode.UNKNOWN_STUDY
    assert approved.returncode == 0
    assert state["state"] == "running"
    assert code == 0
    assert f"for user {os.geteuid()}. Approved studies: none yet" in story
    assert "begins again next time" in story
    assert not socket_path.exists()
    (record,) = (site.folder / "studies").iterdir()
    assert json.loads(record.read_text())["decisions"][0]["signed_by"] == "owner"
