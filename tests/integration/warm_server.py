"""A label server that can be killed and started often.

Most of a server's start is importing. So one process imports, and each server is a copy (fork) of
it, which does from there on what the real command does, with the real arguments, and is killed as
a process of its own. Its worker is a copy of the server in turn, instead of a process that imports
all anew, so that proposals are under way from the first second of a server's life.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from segfed.cli.label_listen import LOOPBACK, Listen, free_port
from segfed.cli.label_server import server_command, server_environment
from segfed.cli.server_folder import temporary_folder
from segfed.sites import Site

_COPIER = """
import multiprocessing, os, runpy, sys
# What the server's module imports; it itself reads settings that each start makes anew.
import uvicorn, monailabel.endpoints.infer, monailabel.endpoints.proxy, monailabel.endpoints.ohif
import label_app.channels, label_app.gate, label_app.main, label_app.threads, label_app.worker

label_app.worker._spawn = multiprocessing.get_context("fork")
print("ready", flush=True)
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""
_BOUND_SECONDS = 180.0


@dataclass
class WarmServer:
    """Starts servers of one site at one address, one after the other."""

    url: str
    copier: subprocess.Popen[str]
    pid: int = 0

    def start(self) -> None:
        """Start a server; returns before it answers."""
        assert self.copier.stdin
        self.copier.stdin.write("\n")
        self.copier.stdin.flush()
        self.pid = int(self._line())

    def kill(self) -> None:
        """Kill the server at once; returns when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._line() == "ended"
        self.pid = 0

    def _line(self) -> str:
        assert self.copier.stdout
        return self.copier.stdout.readline().strip()


def wait_until_ready(url: str) -> None:
    """Return once a server answers."""
    deadline = time.monotonic() + _BOUND_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/info/", timeout=_BOUND_SECONDS).raise_for_status()
            return
        time.sleep(0.02)
    raise TimeoutError(f"{url} is silent")


@contextlib.contextmanager
def warm_server(site: Site, *, reader: str) -> Iterator[WarmServer]:
    """Servers for a reader without an account; none runs yet."""
    listen = Listen(port=free_port(LOOPBACK, 0))
    _, _, *arguments = server_command(site.folder, listen=listen, reader=reader, device="cpu")
    app_folder = site.folder / "cache" / "label_server"
    with (
        temporary_folder(app_folder) as (temporary, _),
        (app_folder / "server.log").open("wb") as log,
        subprocess.Popen(
            (sys.executable, "-c", _COPIER, *arguments),
            cwd=temporary,
            env=server_environment(os.environ, temporary=temporary),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as copier,
    ):
        assert copier.stdout
        copier.stdout.readline()
        server = WarmServer(listen.url, copier)
        try:
            yield server
        finally:
            if server.pid:
                server.kill()
            copier.kill()
