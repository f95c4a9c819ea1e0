"""Flower's programs: every flag, variable and file of theirs that segfed relies on, in one place.

Later releases rename flags; segfed itself never imports Flower.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segfed.cli.certificates import node_key_pem
from segfed.cli.federation_code import code_folder
from segfed.errors import FederationError
from segfed.files import write_text
from segfed.protocol import SERVER_FOLDER_VARIABLE, SOCKET_KEY

REASON = "details ="
"""Begins the line of a program's log that says why its call to another one failed."""

HEART_STOPPED = "in send_node_heartbeat"
"""Stands in a node's log, as part of a traceback, once it has stopped to tell the server that it is
there: Flower does not begin again after an answer that it did not expect, as of a server whose disk
is full. Such a node goes on to call, and the server takes it for away until it starts anew."""

_PROGRAMS = Path(sys.executable).parent
_CONNECTION = "segfed"
_LOOPBACK = "127.0.0.1"
_PATIENCE_SECONDS = 120.0
_KEY_REFUSED, _SENT_AWAY = "The provided public key is", "unregistered"
_SWITCHES = {
    # Without these it reports usage, looks for updates and installs packages while it runs.
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


class KeyRefusedError(FederationError):
    """The server does not let a node in by this key."""


@dataclass(frozen=True)
class ServerCertificate:
    """What a SuperLink shows its callers."""

    authority: Path
    certificate: Path
    key: Path


def environment(home: Path, *, server_folder: Path | None = None) -> dict[str, str]:
    """This process's environment with what Flower's programs need.

    Args:
        home: Where Flower keeps its own files.
        server_folder: Where the server's part of the studies lies; for a SuperLink.
    """
    # Flower starts its helpers by name, also where nobody activated the virtual environment.
    path = f"{_PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # The segfed of this process, also where it runs from a checkout.
    code = f"{code_folder().parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(":")
    values = dict(os.environ) | _SWITCHES
    values |= {"FLWR_HOME": str(home.resolve()), "PATH": path, "PYTHONPATH": code}
    if server_folder is not None:
        values[SERVER_FOLDER_VARIABLE] = str(server_folder.resolve())
    return values


def superlink_command(
    *, tls: ServerCertificate, database: Path, fleet: str, control_port: int, appio_port: int
) -> list[str]:
    """The server that the sites' nodes call.

    The Control API runs code at every site for whoever reaches it, and AppIo is not encrypted:
    both listen on the loopback interface only.

    Args:
        tls: Its certificate.
        database: Where it remembers nodes and messages.
        fleet: Address and port for the nodes.
        control_port: For the commands below.
        appio_port: For its own helpers.
    """
    return [
        str(_PROGRAMS / "flower-superlink"),
        *("--ssl-ca-certfile", str(tls.authority)),
        *("--ssl-certfile", str(tls.certificate)),
        *("--ssl-keyfile", str(tls.key)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        *("--database", str(database)),
        *("--fleet-api-address", fleet),
        *("--control-api-address", f"{_LOOPBACK}:{control_port}"),
        *("--serverappio-api-address", f"{_LOOPBACK}:{appio_port}"),
    ]


def supernode_command(
    *, superlink: str, authority: Path, key: Path, agent_socket: Path, appio_port: int
) -> list[str]:
    """A site's node, which calls the server and is never called.

    Args:
        superlink: Host and port of the server.
        authority: Certificate of the authority that the server's one must come from.
        key: The site's own private key.
        agent_socket: Where the relay finds the site's agent.
        appio_port: For its own helpers, on the loopback interface.
    """
    return [
        *(sys.executable, "-P", str(code_folder() / "node.py"), "flower-supernode"),
        *("--root-certificates", str(authority)),
        *("--superlink", superlink),
        *("--auth-supernode-private-key", str(key)),
        *("--clientappio-api-address", f"{_LOOPBACK}:{appio_port}"),
        *("--node-config", f"{SOCKET_KEY}={json.dumps(str(agent_socket))}"),
    ]


def write_connection(home: Path, *, control_port: int, authority: Path) -> None:
    """Tell the commands below where the SuperLink is."""
    write_text(
        home / "config.toml",
        f"[superlink]\ndefault = {json.dumps(_CONNECTION)}\n\n[superlink.{_CONNECTION}]\n"
        f'address = "{_LOOPBACK}:{control_port}"\n'
        f"root-certificates = {json.dumps(str(authority.resolve()))}\n",
    )


def register_node(home: Path, public_key: Path) -> int:
    """Let a node in; returns the number by which the server knows it from now on.

    Raises:
        KeyRefusedError: If the key is none, or was known before: the server takes each only once,
            also after its node was sent away.
        FederationError: If the server does not answer.
    """
    try:
        return int(_flwr(home, "supernode", "register", str(public_key))["node-id"])
    except FederationError as error:
        if _KEY_REFUSED in str(error):
            raise KeyRefusedError(
                f"The server refuses the key {public_key}; expected one on a NIST curve that it "
                "never let in before. The site removes node.key, runs `segfed federate keys` and "
                "sends the new node.pub; then provision, and restart the server."
            ) from None
        raise


def registered_node(database: Path, public_key: Path) -> int | None:
    """The number of the node that a key was let in as; None if the server does not know the key.

    Flower's commands list nodes without their keys, so this reads the database of the SuperLink,
    which may run meanwhile.

    Args:
        database: The SuperLink's.
        public_key: The node's, in the form of OpenSSH.

    Raises:
        FederationError: If the database cannot be read.
    """
    address = f"{database.resolve().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            row = connection.execute(
                "SELECT node_id FROM node WHERE public_key = ? AND status != ?",
                (node_key_pem(public_key), _SENT_AWAY),
            ).fetchone()
    except sqlite3.Error as error:
        raise FederationError(
            f"The server's database {database} cannot be read ({error}); expected the list of "
            "nodes that Flower keeps there. Stop the server, restore the file or remove it, and "
            "start again."
        ) from error
    # SQLite knows no unsigned numbers: Flower stores the upper half of them as negative ones.
    return None if row is None else int(row[0]) % 2**64


def unregister_node(home: Path, node_id: int) -> None:
    """Let a node in no longer."""
    _flwr(home, "supernode", "unregister", str(node_id))


def node_states(home: Path) -> Mapping[int, str]:
    """Whether each node that is let in is ``online``, ``offline`` or was never there."""
    nodes = _flwr(home, "supernode", "list")["nodes"]
    states = {int(node["node-id"]): str(node["status"]) for node in nodes}
    # The server also lists those that it sent away.
    return {node: state for node, state in states.items() if state != _SENT_AWAY}


def start_run(home: Path, app: Path) -> int:
    """Send an app to the SuperLink and start it; returns the number of the run."""
    return int(_flwr(home, "run", str(app), _CONNECTION)["run-id"])


def run_state(home: Path, run_id: int) -> str:
    """How a run is, as ``running`` or ``finished:failed``."""
    runs = _flwr(home, "list", "--run-id", str(run_id))["runs"]
    return str(runs[0]["status"])


def free_port() -> int:
    """A port of the loopback interface that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        return int(listener.getsockname()[1])


def _flwr(home: Path, *arguments: str) -> dict[str, Any]:
    """What a command of Flower's command line answers.

    Raises:
        FederationError: If it fails, with what it says.
    """
    answer = _ask(home, arguments)
    if not answer.get("success", False):
        raise FederationError(
            f"`flwr {' '.join(arguments[:2])}` failed: "
            f"{answer.get('error-message') or 'it says nothing'}; expected an answer of the "
            "federation's server on this machine. Start it with `segfed federate serve`, and see "
            "its log."
        )
    return answer


def _ask(home: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """The JSON that a command prints, or one that says why there is none."""
    if not home.exists():
        return {"error-message": f"nobody has started the server from {home.parent}"}
    try:
        # In its home folder: Flower looks for a project where it is called.
        done = subprocess.run(
            [str(_PROGRAMS / "flwr"), *arguments, "--format", "json"],
            env=environment(home),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error-message": f"no answer within {_PATIENCE_SECONDS:.0f} s"}
    said = (done.stderr or done.stdout).strip()[-400:] or f"exit code {done.returncode}"
    answer = {"error-message": said} | _last_json(done.stdout)
    return answer if done.returncode == 0 else answer | {"success": False}


def _last_json(text: str) -> dict[str, Any]:
    """The JSON document that ends an output; Flower may print a line for people before it."""
    start = text.find("{")
    try:
        content = json.loads(text[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
