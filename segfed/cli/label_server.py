"""Starts the MONAI Label server in a process of its own, so that segfed never imports it."""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NoReturn

import httpx

from segfed.cli.label_listen import Listen, check_listen, free_port
from segfed.cli.server_folder import temporary_folder
from segfed.errors import ServerError
from segfed.files import write_text
from segfed.processes import die_with_parent
from segfed.sites import read_accounts

_APP = 'from label_app.main import SegfedLabelApp\n\n__all__ = ["SegfedLabelApp"]\n'
_SWITCHES = {
    # A child process that scores would call the server back, and write its files.
    "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    "MONAI_LABEL_TASKS_SCORING": "false",
    "MONAI_LABEL_TASKS_BATCH_INFER": "false",
    "MONAI_LABEL_SESSIONS": "false",
    "MONAI_LABEL_TRACKING_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # uvicorn would believe whatever address a local program claims to forward for.
    "FORWARDED_ALLOW_IPS": "",
    "WEB_CONCURRENCY": "1",
    # glibc keeps a heap for each of up to 8 threads a core, and what a label or a connection left
    # free in one is of no use to the threads of another: memory grew with every label.
    "MALLOC_ARENA_MAX": "2",
}
_MOST_LOG_BYTES = 1024**2


@dataclass(frozen=True)
class RunningServer:
    """A server process that was started for one site."""

    listen: Listen
    process: subprocess.Popen[bytes]
    log: BinaryIO
    """What the process writes; opened for reading, too."""

    @property
    def url(self) -> str:
        """Where a reader connects."""
        return self.listen.url

    def wait(self) -> NoReturn:
        """Wait until the server ends by itself, which it never should.

        Raises:
            ServerError: Once it has ended; the message quotes the end of its log.
        """
        code = self.process.wait()
        raise ServerError(
            f"The label server at {self.url} ended with code {code}; expected it to run until it "
            f"is stopped here. {self.last_words()}. Labels that were saved are safe; correct that "
            "and start it again."
        )

    def is_listening(self) -> bool:
        """Whether this very process has the port; an answer could come from any other."""
        return f"Uvicorn running on {self.listen.bound_url} " in self._log_text()

    def last_words(self) -> str:
        """The log's name and last lines."""
        lines = self._log_text().strip().splitlines()[-3:]
        return f"Its log {self.log.name} ends: {' / '.join(lines) or '(empty)'}"

    def _log_text(self) -> str:
        """The end of the log, read without moving the place where the process writes."""
        start = max(os.fstat(self.log.fileno()).st_size - _MOST_LOG_BYTES, 0)
        return os.pread(self.log.fileno(), _MOST_LOG_BYTES, start).decode(errors="replace")


def server_command(
    site_folder: Path, *, listen: Listen, reader: str | None, device: str = "auto"
) -> tuple[str, ...]:
    """The command that serves a site; it holds no secret.

    MONAI Label writes logs and folders into its app's folder, so the site gets one of its own,
    which only names the real app.

    Args:
        site_folder: The site.
        listen: Where to listen.
        reader: Whose name the label records bear; None lets readers log in.
        device: Where the model runs.
    """
    app_folder = _app_folder(site_folder)
    write_text(app_folder / "main.py", _APP)
    tls = ("--ssl_certfile", str(listen.certificate), "--ssl_keyfile", str(listen.key))
    return (
        *(sys.executable, "-m", "monailabel.main", "start_server"),
        *("--app", str(app_folder)),
        *("--studies", str(site_folder.resolve() / "images")),
        *("--host", listen.host),
        *("--port", str(listen.port)),
        *(tls if listen.certificate else ()),
        *("--uvicorn_app", "label_app.server:app"),
        *(("--conf", "reader", reader) if reader else ()),
        *("--conf", "public_names", " ".join(listen.known_names)),
        *("--conf", "device", device),
    )


def server_environment(inherited: Mapping[str, str], *, temporary: Path) -> dict[str, str]:
    """An environment without any setting of MONAI Label's but ours.

    Args:
        inherited: This process's environment.
        temporary: Where the server keeps its temporary files.

    Raises:
        ServerError: If the installation is incomplete.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith("MONAI_LABEL_")}
    spec = importlib.util.find_spec("label_app")
    if spec is None or spec.origin is None:
        raise ServerError(
            "Found no package 'label_app'; expected it beside segfed. Install segfed again."
        )
    paths = [str(Path(spec.origin).parents[1]), inherited.get("PYTHONPATH", "")]
    search = os.pathsep.join(filter(None, paths))
    return kept | _SWITCHES | {"PYTHONPATH": search, "TMPDIR": str(temporary)}


@contextlib.contextmanager
def label_server(
    site_folder: Path,
    *,
    port: int = 0,
    reader: str | None = None,
    device: str = "auto",
    start_timeout_seconds: float = 120.0,
) -> Iterator[str]:
    """Serve a site while the block runs; yields the server's URL once it answers.

    The server ends with the block, and with this process, however that ends.

    Args:
        site_folder: The site.
        port: Where to listen on the loopback address; 0 takes a free port.
        reader: Whose name the label records bear; by default the operating system's user. A site
            that has accounts lets readers log in instead.
        device: Where the model runs.
        start_timeout_seconds: How long the server may take until it answers.

    Raises:
        ServerError: If the port is taken or the server does not start; the message quotes the
            end of its log.
    """
    with running_server(
        site_folder,
        listen=Listen(port=port),
        reader=reader,
        device=device,
        start_timeout_seconds=start_timeout_seconds,
    ) as server:
        yield server.url


@contextlib.contextmanager
def running_server(
    site_folder: Path,
    *,
    listen: Listen,
    reader: str | None = None,
    device: str = "auto",
    start_timeout_seconds: float = 120.0,
) -> Iterator[RunningServer]:
    """As `label_server`, for a caller who must notice when the server ends by itself.

    Raises:
        ServerError: Also if the site may not be served there; see `check_listen`.
    """
    has_accounts = bool(read_accounts(site_folder))
    check_listen(listen, has_accounts=has_accounts, reader=reader)
    if not has_accounts:
        reader = reader or getpass.getuser()
    listen = replace(listen, port=free_port(listen.host, listen.port))
    command = server_command(site_folder, listen=listen, reader=reader, device=device)
    app_folder = _app_folder(site_folder)
    log_path = app_folder / "server.log"
    if log_path.exists():  # another server of this site keeps writing to its own
        log_path.replace(app_folder / "server.previous.log")
    with (
        # Uploads and proposals pass through temporary files: they stay within the site.
        temporary_folder(app_folder) as (temporary, lock),
        log_path.open("w+b") as log,
        subprocess.Popen(
            command,
            cwd=temporary,  # MONAI Label reads a file called .env in its current folder
            env=server_environment(os.environ, temporary=temporary),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            preexec_fn=die_with_parent(),
        ) as process,
    ):
        server = RunningServer(listen, process, log)
        try:
            _wait_until_ready(server, timeout_seconds=start_timeout_seconds)
            yield server
        finally:
            _end(process)


def _app_folder(site_folder: Path) -> Path:
    return site_folder.resolve() / "cache" / "label_server"


def _wait_until_ready(server: RunningServer, *, timeout_seconds: float) -> None:
    """Return once the server answers; refuse to wait for one that has ended."""
    deadline = time.monotonic() + timeout_seconds
    info = f"{server.listen.local_url}/info/"
    with httpx.Client(trust_env=False, timeout=5.0, verify=_any_certificate()) as client:
        while server.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                # Any answer will do: it listens, and what it has to say readers can read.
                if server.is_listening():
                    client.get(info)
                    return
            time.sleep(0.1)
    code = server.process.poll()
    state = f"said nothing for {timeout_seconds:g} seconds"
    advice = "On a busy computer start it again once there is less to do"
    if code is not None:
        state, advice = f"ended with code {code} as it started", "Correct that and start it again"
    raise ServerError(
        f"The label server at {server.url} {state}; expected an answer from {info}. "
        f"{server.last_words()}. {advice}."
    )


def _any_certificate() -> ssl.SSLContext:
    """For a question that holds no secret, to a server that its own log has identified.

    The certificate names what readers connect to, which is not how this machine reaches itself.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _end(process: subprocess.Popen[bytes], *, grace_seconds: float = 10.0) -> None:
    """End a process: politely, then for certain."""
    process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
