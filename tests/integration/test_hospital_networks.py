"""A federation of hosts: every hospital behind a firewall, its agent and its node as two users.

Where no network namespaces can be made, `test_deployment.py` runs the same on the loopback
interface.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deployment_samples import (
    SEGFED,
    final_weights,
    make_federation,
    read,
    signed_study,
    simulated_weights,
    until,
)
from tests.hospital_hosts import Host, environment, hosts

HOSPITALS = ("north", "southern", "west")
OPERATOR = 61000
ROUNDS = 2


@dataclass(frozen=True)
class Hospital:
    """A hospital's host, and what its two users have there."""

    host: Host
    site: Path
    kit: Path
    socket: Path
    agent: int
    node: int

    @property
    def group(self) -> tuple[int, ...]:
        """What lets the node's user call the agent."""
        return (self.agent,)


@pytest.fixture
def folder():
    """Where everybody has a folder: other users get through, and sockets have a short path."""
    with tempfile.TemporaryDirectory(prefix="sf-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_hospitals_that_let_nobody_in_train_with_a_server_elsewhere(folder, tmp_path):
    with hosts("server", *HOSPITALS) as found, contextlib.ExitStack() as stack:
        server = found.pop("server")
        federation = make_federation(folder, sites=HOSPITALS, host=server.address, bind="0.0.0.0")
        study = signed_study(federation, rounds=ROUNDS)
        hand_over(federation.kit, OPERATOR)
        hospitals = [
            move_in(federation, host, name=name, user=OPERATOR + 10 * number)
            for number, (name, host) in enumerate(found.items(), start=1)
        ]
        for hospital in hospitals:
            assert hospital.host.lets_in(server)
            hospital.host.shut()

        serve(stack, server, federation)
        for hospital in hospitals:
            join(stack, hospital)
        for hospital in hospitals:
            until(lambda log=hospital.kit / "logs" / "node.log": "SuperNode ID" in read(log))
        done = server.run(*SEGFED, "submit", federation.kit, study, user=OPERATOR)
        for hospital in hospitals:
            check_closed(hospital, server)
        shown = server.run(*SEGFED, "status", federation.kit, "--json", user=OPERATOR)

        assert done.returncode == 0, done.stderr
        status = json.loads(shown.stdout)
        assert (status["state"], status["rounds_done"]) == ("finished", ROUNDS)
        assert {site["online"] for site in status["sites"].values()} == {True}
        simulated = simulated_weights(tmp_path / "simulated", study, sites=HOSPITALS)
        assert final_weights(federation, study) == simulated


def move_in(federation, host, *, name, user):
    """Give a hospital's folders to its users, as the kit's README says, and name them."""
    kit, socket = federation.folder / "kits" / name, federation.folder / f"at-{name}" / "a.sock"
    hospital = Hospital(host, federation.site(name), kit, socket, agent=user, node=user + 1)
    settings = hospital.site / "site.toml"
    text = settings.read_text()
    assert "peers = []" in text
    settings.write_text(text.replace("peers = []", f"peers = [{hospital.node}]"))
    shutil.move(hospital.site / "node.key", kit / "node.key")
    socket.parent.mkdir()
    hand_over(socket.parent, hospital.agent, mode=0o755)
    hand_over(hospital.site, hospital.agent)
    hand_over(kit, hospital.node)
    return hospital


def hand_over(folder, user, *, mode=0o700):
    """Give a folder and all in it to one user."""
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, user, user)
    folder.chmod(mode)


def serve(stack, server, federation):
    """The server, once it listens."""
    log = federation.folder / "server.log"
    process = start(stack, server, log, "serve", federation.kit, user=OPERATOR)
    until(lambda: "The server listens" in read(log), alive=process, said=lambda: read(log))


def join(stack, hospital):
    """Agent and node of a hospital, each as its own user, as the units for systemd start them."""
    log, socket = hospital.socket.with_name("agent.log"), ("--socket", hospital.socket)
    arguments = ("agent", hospital.site, *socket, "--device", "cpu")
    start(stack, hospital.host, log, *arguments, user=hospital.agent)
    log, arguments = hospital.socket.with_name("node.log"), ("node", hospital.kit, *socket)
    start(stack, hospital.host, log, *arguments, user=hospital.node, groups=hospital.group)


def start(stack, host, log, *arguments, user, groups=()):
    """A command that runs on a host until the stack is left."""
    handle = stack.enter_context(log.open("ab"))
    process = subprocess.Popen(
        host.command(*SEGFED, *arguments, user=user, groups=groups),
        stdout=handle,
        stderr=subprocess.STDOUT,
        env=environment(user),
    )
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)
    return process


def check_closed(hospital, server):
    """Nobody gets into the hospital, nothing of ours waits for anybody, and the node sees no case.

    Asked while agent and node run.
    """
    assert not hospital.host.lets_in(server)
    table = hospital.host.run("cat", "/proc/net/tcp", "/proc/net/tcp6").stdout
    rows = [line.split() for line in table.splitlines()]
    listening = {row[1].split(":")[0][-8:] for row in rows if row[3] == "0A"}
    assert listening == {"0100007F"}  # 127.0.0.1, as the kernel prints it
    image = hospital.site / "images" / "case0.nii.gz"
    for user, readable in ((hospital.agent, True), (hospital.node, False)):
        looked = hospital.host.run("head", "-c", "1", image, user=user, groups=hospital.group)
        assert (looked.returncode == 0) == readable, looked.stderr
