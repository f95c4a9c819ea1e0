"""The federation's server on this machine: runs the SuperLink and lets the sites' nodes in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from segfed.cli import flower
from segfed.cli.kit import AUTHORITY_FILE, ServerKit, expiry_warning, load_server_kit
from segfed.cli.supervisor import Program, Supervisor, only_one, until_told_to_stop
from segfed.errors import FederationError
from segfed.files import write_json
from segfed.settings import Settings, load_json

_REGISTRY_FILE = "registered.json"
_START_SECONDS, _PAUSE_SECONDS = 120.0, 1.0


class Registration(Settings):
    """A node that the server lets in."""

    node_id: int
    public_key: str


class Registry(Settings):
    """``registered.json``: who is let in now, by the site's name."""

    sites: dict[str, Registration] = Field(default_factory=dict)


def serve(kit_folder: Path, *, say: Callable[[str], None]) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Args:
        kit_folder: The server's kit; its database, logs and studies lie there, too.
        say: Is told what happens.

    Raises:
        ConfigError: If there is no kit.
        FederationError: If it has expired, runs already, or does not start.
    """
    kit = load_server_kit(kit_folder)
    # Before anything is written: the commands of a server that runs read the same folder.
    with only_one(kit_folder / "serve.lock", what=f"server of the kit {kit_folder}"):
        home = flower_home(kit_folder)
        control_port = flower.free_port()
        flower.write_connection(
            home, control_port=control_port, authority=kit_folder / AUTHORITY_FILE
        )
        log = kit_folder / "logs" / "superlink.log"
        program = Program(
            "superlink",
            flower.superlink_command(
                tls=flower.ServerCertificate(
                    authority=kit_folder / AUTHORITY_FILE,
                    certificate=kit_folder / "server.crt",
                    key=kit_folder / "server.key",
                ),
                database=_database(kit_folder).resolve(),
                fleet=f"{kit.bind}:{kit.port}",
                control_port=control_port,
                appio_port=flower.free_port(),
            ),
            flower.environment(home, server_folder=kit_folder),
            log,
            # It starts the studies, ends where the disk is full, and nobody starts it again.
            helper="flower-superexec",
        )
        with until_told_to_stop(), Supervisor([program], say=say) as supervisor:
            _await_server(home, supervisor, log=log)
            sites = register_sites(kit_folder, kit, say=say)
            say(f"The server listens at {kit.bind}:{kit.port} for {', '.join(sorted(sites))}.")
            supervisor.run(each_day=lambda: _say_expiry(kit, say))


def register_sites(
    kit_folder: Path, kit: ServerKit, *, say: Callable[[str], None]
) -> dict[str, int]:
    """Let in the sites of the kit as they are now, and nobody else; returns their nodes' numbers.

    A site with a new key gets a new node; a key or site that is no longer in the kit is sent away.
    One that was let in before this process could write it down keeps its node. One whose key the
    server refuses is left out: the others need not wait for it.

    Args:
        kit_folder: The server's kit.
        kit: Its settings.
        say: Is told of a site that is left out.

    Raises:
        FederationError: If the server does not answer.
    """
    home, path = flower_home(kit_folder), kit_folder / _REGISTRY_FILE
    known = read_registry(kit_folder)
    wanted = {site: _key_file(kit_folder, site).read_text().strip() for site in kit.sites}
    # The server's own list decides: the database may be new, or a change was cut short.
    nodes = flower.node_states(home).keys()
    registered = {site: entry for site, entry in known.sites.items() if entry.node_id in nodes}
    for site, entry in list(registered.items()):
        if wanted.get(site) != entry.public_key:
            flower.unregister_node(home, entry.node_id)
            del registered[site]
            _write_registry(path, registered)
    for site in sorted(wanted.keys() - registered.keys()):
        key_file = _key_file(kit_folder, site).resolve()
        try:
            node_id = flower.register_node(home, key_file)
        except flower.KeyRefusedError as error:
            known_node = flower.registered_node(_database(kit_folder), key_file)
            if known_node is None:
                say(f"Site {site} is left out. {error}")
                continue
            node_id = known_node
        registered[site] = Registration(node_id=node_id, public_key=wanted[site])
        _write_registry(path, registered)
    return {site: entry.node_id for site, entry in registered.items()}


def online_sites(kit_folder: Path) -> dict[str, bool] | None:
    """Whether each site's node is connected; None if the server does not answer."""
    if not flower_home(kit_folder).exists():
        return None
    try:
        states = flower.node_states(flower_home(kit_folder))
    except FederationError:
        return None
    sites = read_registry(kit_folder).sites
    return {site: states.get(entry.node_id) == "online" for site, entry in sites.items()}


def read_registry(kit_folder: Path) -> Registry:
    """Who is let in."""
    path = kit_folder / _REGISTRY_FILE
    return load_json(path, Registry, kind="list of nodes") if path.exists() else Registry()


def flower_home(kit_folder: Path) -> Path:
    """Where Flower keeps the server's own files."""
    return kit_folder / "flower"


def _say_expiry(kit: ServerKit, say: Callable[[str], None]) -> None:
    """A certificate that expires soon is announced, also to a server that runs for months."""
    if warning := expiry_warning(kit, now=datetime.now(UTC)):
        say(warning)


def _await_server(home: Path, supervisor: Supervisor, *, log: Path) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + _START_SECONDS
    while True:
        supervisor.look()
        try:
            flower.node_states(home)
        except FederationError:
            if time.monotonic() >= end:
                raise FederationError(
                    f"The server did not answer within {_START_SECONDS:.0f} s; expected it to "
                    f"start. Its log {log} says why."
                ) from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _database(kit_folder: Path) -> Path:
    """Where Flower remembers nodes and messages."""
    return kit_folder / "superlink.db"


def _key_file(kit_folder: Path, site: str) -> Path:
    return kit_folder / "nodes" / f"{site}.pub"


def _write_registry(path: Path, sites: dict[str, Registration]) -> None:
    """At once after each change: the server forgets no node that was let in."""
    write_json(path, json.loads(Registry(sites=sites).model_dump_json()))
