"""Who may call the agent, and where."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys

import httpx
import pytest

from segfed.agent.listening import listening_socket, only_agent, peer_uid
from segfed.errors import ConfigError, FederationError
from tests.federation_samples import AddingAgent
from tests.socket_samples import serving, short_folder

NOBODY = 65534


@pytest.fixture
def folder():
    with short_folder() as path:
        yield path


def status_for(path):
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://agent") as client:
        return client.post("/v2/jobs", content=b"x" * 10_000_000).status_code


def test_a_user_who_may_not_call_is_sent_away_before_anything_is_read(folder, caplog):
    with serving(AddingAgent(1), folder / "a.sock", peers=(os.geteuid() + 1,)) as desk:
        assert status_for(folder / "a.sock") == 403
        assert not desk.is_busy

    assert f"user {os.geteuid()} called and was sent away" in caplog.text


def test_the_kernel_tells_who_calls():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("peers", "status"), [((NOBODY,), "200"), ((0,), "403")])
def test_another_user_is_answered_only_if_the_site_names_it(folder, peers, status):
    folder.chmod(0o755)
    code = (
        "import contextlib, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "with contextlib.suppress(BrokenPipeError):\n"  # sent away before it said anything
        "    s.sendall(b'GET / HTTP/1.1\\r\\nHost: agent\\r\\n\\r\\n')\n"
        "print(s.recv(99))"
    )
    with serving(AddingAgent(1), folder / "a.sock", peers=peers):
        (folder / "a.sock").chmod(0o666)  # the mode would keep it away, too
        answer = subprocess.run(
            ["/usr/bin/env", "python3", "-c", code, str(folder / "a.sock")],
            user=NOBODY,
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    assert f"HTTP/1.1 {status}" in answer


@pytest.mark.parametrize(("shared", "mode"), [(False, 0o600), (True, 0o660)])
def test_the_socket_s_mode_keeps_others_away_and_it_is_gone_afterwards(folder, shared, mode):
    path = folder / "run" / "a.sock"
    with listening_socket(path, shared=shared):
        assert stat.S_IMODE(path.stat().st_mode) == mode

    assert not path.exists()


def test_the_longest_path_that_unix_allows_works_and_a_longer_one_is_explained(folder):
    room = 107 - len(os.fsencode(folder)) - 1
    with listening_socket(folder / ("a" * room), shared=False):
        pass

    with (
        pytest.raises(ConfigError, match="has 108 bytes; Unix allows 107"),
        listening_socket(folder / ("a" * (room + 1)), shared=False),
    ):
        pass


def test_the_socket_of_a_killed_agent_is_replaced(folder):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / "a.sock"))
    left.close()

    with listening_socket(folder / "a.sock", shared=False) as server:
        server.listen()


def test_a_socket_in_use_is_left_alone(folder):
    with listening_socket(folder / "a.sock", shared=False) as server:
        server.listen()
        with (
            pytest.raises(FederationError, match="Another process listens"),
            listening_socket(folder / "a.sock", shared=False),
        ):
            pass
        assert (folder / "a.sock").is_socket()


def test_a_file_in_the_way_is_left_alone(folder):
    (folder / "a.sock").write_text("a thesis")

    with (
        pytest.raises(ConfigError, match="is no socket"),
        listening_socket(folder / "a.sock", shared=False),
    ):
        pass
    assert (folder / "a.sock").read_text() == "a thesis"


def test_a_folder_that_others_can_write_to_is_refused(folder):
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)

    with (
        pytest.raises(ConfigError, match="with the mode 777"),
        listening_socket(folder / "open" / "a.sock", shared=False),
    ):
        pass


def test_a_site_has_one_agent_at_a_time_even_if_that_was_killed(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from segfed.agent.listening import only_agent\n"
        "with only_agent(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    with (
        only_agent(tmp_path),
        pytest.raises(FederationError, match="Another agent"),
        only_agent(tmp_path),
    ):
        pass

    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=300)

    assert killed.returncode == -9
    with only_agent(tmp_path):
        pass
