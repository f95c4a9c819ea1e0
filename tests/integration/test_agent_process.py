"""A site's agent as a process: approved, killed, started again, stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading

import httpx
import pytest

from federation.agent_socket import SocketAgent
from segfed.protocol import AgentError, AgentErrorCode
from tests.agent_samples import approve, bean_manifest, job, labelled_site, make_agent, make_owner
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as httpcore does
def test_an_agent_killed_at_work_gives_the_same_update_after_its_restart(tmp_path, socket_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path, steps_per_round=MANY_STEPS)
    request = job(manifest, ttl_seconds=300)
    twin = tmp_path / "twin"
    shutil.copytree(site.folder, twin)
    approve(site, manifest, key=make_owner(tmp_path))
    replies = []
    relay = threading.Thread(
        target=lambda: replies.append(SocketAgent(socket_path).answer(request))
    )

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

    # The relay waited out the restart; training again would take another number of seconds.
    assert replies == [again]
    assert not socket_path.exists()
    unbroken = make_agent(type(site)(twin, site.settings, site.task, site.cases), manifest)
    assert replies[0].weights == unbroken.answer(request).weights


def test_an_agent_refuses_what_is_unapproved_and_stops_in_the_middle_of_a_job(
    tmp_path, socket_path
):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path, steps_per_round=MANY_STEPS)

    with agent_process(site, socket_path) as process:
        with pytest.raises(AgentError) as refused:
            SocketAgent(socket_path).answer(job(manifest, ttl_seconds=60))
        approve(site, manifest, key=make_owner(tmp_path))
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket_path)), base_url="http://agent"
        ) as client:
            query = {"manifest": manifest.sha256, "round": 1, "verb": "train"}
            state = client.post("/v2/jobs", params=query, content=job(manifest).weights).json()
        process.send_signal(signal.SIGINT)
        code, story = process.wait(60), process.stdout.read()

    assert refused.value.code == AgentErrorCode.UNKNOWN_STUDY
    assert state["state"] == "running"
    assert code == 0
    assert f"for user {os.geteuid()}. Approved studies: none yet" in story
    assert "begins again next time" in story
    assert not socket_path.exists()
