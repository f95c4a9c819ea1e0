"""How label servers are started, without starting one."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import segfed.cli.label_server as label_server_module
from segfed.cli.label import app
from segfed.cli.label_listen import LOOPBACK, Listen
from segfed.cli.label_server import RunningServer, label_server, server_command
from segfed.errors import ServerError
from tests.sites_samples import make_site


def test_a_port_that_another_server_has_is_refused(tmp_path):
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]

        with (
            pytest.raises(ServerError, match=rf"Port {port} .*nobody listens.*--port"),
            label_server(tmp_path, port=port),
        ):
            pass


def test_a_port_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ServerError, match="Port 70000"), label_server(tmp_path, port=70000):
        pass


@pytest.fixture
def ended(tmp_path):
    """A process that said that it listens on port 80, and ended with code 7."""
    script = "print('Uvicorn running on http://127.0.0.1:80 (Press'); raise SystemExit(7)"
    with (
        (tmp_path / "server.log").open("w+b") as log,
        subprocess.Popen([sys.executable, "-c", script], stdout=log) as process,
    ):
        process.wait()
        yield process, log


def test_a_server_that_ends_by_itself_is_noticed_with_its_last_words(ended):
    with pytest.raises(ServerError, match=r"ended with code 7.*server\.log ends: Uvicorn"):
        RunningServer(Listen(port=80), *ended).wait()


def test_only_the_servers_own_word_says_that_it_has_the_port(ended):
    assert RunningServer(Listen(port=80), *ended).is_listening()
    assert not RunningServer(Listen(port=8), *ended).is_listening()


REFUSES_ALL = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Refuses(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(422)

server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Refuses)
print(f"Uvicorn running on http://127.0.0.1:{sys.argv[1]} (Press", flush=True)
server.serve_forever()
"""


def test_a_server_that_answers_with_a_refusal_is_ready(tmp_path, monkeypatch):
    def command(_folder, *, listen, **_):
        (tmp_path / "cache" / "label_server").mkdir(parents=True)
        return sys.executable, "-c", REFUSES_ALL, str(listen.port)

    monkeypatch.setattr(label_server_module, "server_command", command)

    with label_server(tmp_path, start_timeout_seconds=10.0) as url:
        assert httpx.get(url, trust_env=False).status_code == 422


def test_serving_others_is_refused_on_the_command_line_unless_all_is_given(tmp_path):
    folder = make_site(tmp_path).folder

    refused = CliRunner().invoke(app, ["serve", str(folder), "--host", "0.0.0.0"])

    assert isinstance(refused.exception, ServerError)
    assert "accounts" in str(refused.exception)
    assert "--tls-certificate and --tls-key" in str(refused.exception)


def test_the_command_holds_the_reader_or_leaves_it_to_the_login(tmp_path):
    listen = Listen("0.0.0.0", 8443, Path("/c.pem"), Path("/k.pem"), ("a.example", "b.example"))

    public = server_command(tmp_path, listen=listen, reader=None)
    local = server_command(tmp_path, listen=Listen(port=80), reader="ann")

    assert "reader" not in public
    assert public[public.index("public_names") + 1] == "a.example b.example"
    assert public[public.index("--ssl_certfile") + 1] == "/c.pem"
    assert local[local.index("reader") + 1] == "ann"
    assert "--ssl_certfile" not in local
