"""Starts the MONAI Label server in a process of its own, so that segfed never imports it."""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import httpx

from segfed.errors import ServerError
from segfed.files import write_text

HOST = "127.0.0.1"
_APP = 'from label_app.main import SegfedLabelApp\n\n__all__ = ["SegfedLabelApp"]\n'
_SWITCHES = {
    # A child process that scores or trains would call the server back, and write its files.
    "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    "MONAI_LABEL_TASKS_TRAIN": "false",
    "MONAI_LABEL_TASKS_SCORING": "false",
    "MONAI_LABEL_TASKS_BATCH_INFER": "false",
    "MONAI_LABEL_SESSIONS": "false",
    "MONAI_LABEL_TRACKING_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_PR_SET_PDEATHSIG = 1


def server_command(
    site_folder: Path, *, port: int, reader: str, device: str = "auto"
) -> tuple[str, ...]:
    """The command that serves a site to one reader, on this machine only.

    MONAI Label writes logs and folders into its app's folder, so the site gets one of its own,
    which only names the real app.

    Args:
        site_folder: The site.
        port: Where to listen on the loopback address.
        reader: Whose name the label records bear.
        device: Where the model runs.
    """
    app_folder = _app_folder(site_folder)
    write_text(app_folder / "main.py", _APP)
    return (
        *(sys.executable, "-m", "monailabel.main", "start_server"),
        *("--app", str(app_folder)),
        *("--studies", str(site_folder.resolve() / "images")),
        *("--host", HOST),
        *("--port", str(port)),
        *("--uvicorn_app", "label_app.server:app"),
        *("--conf", "reader", reader),
        *("--conf", "device", device),
    )


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
        reader: Whose name the label records bear; the operating system's user by default.
        device: Where the model runs.
        start_timeout_seconds: How long the server may take until it answers.

    Raises:
        ServerError: If the server does not start; the message quotes the end of its log.
    """
    port = port or _free_port()
    command = server_command(
        site_folder, port=port, reader=reader or getpass.getuser(), device=device
    )
    app_folder = _app_folder(site_folder)
    log_path = app_folder / "server.log"
    with (
        # Uploads and proposals pass through temporary files: they stay within the site.
        tempfile.TemporaryDirectory(prefix=".server-", dir=app_folder) as temporary,
        log_path.open("wb") as log,
        subprocess.Popen(
            command,
            cwd=temporary,  # MONAI Label reads a file called .env in its current folder
            env=_environment(os.environ, temporary=temporary),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent(),
        ) as process,
    ):
        try:
            url = f"http://{HOST}:{port}"
            _wait_until_ready(url, process, log_path, timeout_seconds=start_timeout_seconds)
            yield url
        finally:
            _end(process)


def _app_folder(site_folder: Path) -> Path:
    return site_folder.resolve() / "cache" / "label_server"


def _environment(inherited: Mapping[str, str], *, temporary: str) -> dict[str, str]:
    """This process's environment without any setting of MONAI Label's but ours."""
    kept = {name: value for name, value in inherited.items() if not name.startswith("MONAI_LABEL_")}
    spec = importlib.util.find_spec("label_app")
    if spec is None or spec.origin is None:
        raise ServerError(
            "Found no package 'label_app'; expected it beside segfed. Install segfed again."
        )
    paths = [str(Path(spec.origin).parents[1]), inherited.get("PYTHONPATH", "")]
    search = os.pathsep.join(filter(None, paths))
    return kept | _SWITCHES | {"PYTHONPATH": search, "TMPDIR": temporary}


def _wait_until_ready(
    url: str, process: subprocess.Popen[bytes], log_path: Path, *, timeout_seconds: float
) -> None:
    """Return once the server answers; refuse to wait for one that has ended."""
    deadline = time.monotonic() + timeout_seconds
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{url}/info/").is_success:
                    return
            time.sleep(0.1)
    state = "is still silent" if process.poll() is None else f"ended with code {process.poll()}"
    last_words = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    raise ServerError(
        f"The label server at {url} {state} after {timeout_seconds:g} seconds or less; expected "
        f"an answer from {url}/info/. Its log {log_path} ends: "
        f"{' / '.join(last_words) or '(empty)'}. Correct that and start it again."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> Callable[[], int] | None:
    """What the child does first: ask Linux for SIGTERM when its parent dies, however it dies."""
    if sys.platform != "linux":
        return None
    # Looked up here: between fork and exec nothing but the call itself may happen.
    return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes], *, grace_seconds: float = 10.0) -> None:
    """End a process: politely, then for certain."""
    process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
