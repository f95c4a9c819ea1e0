"""A hospital's part of a federation on this machine: its agent and its node, kept running."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from segfed.cli import flower
from segfed.cli.agent_process import socket_path
from segfed.cli.kit import (
    AUTHORITY_FILE,
    NODE_KEY,
    SiteKit,
    load_site_kit,
    renewal_reminder,
)
from segfed.cli.supervisor import Program, Supervisor, only_one, until_told_to_stop
from segfed.errors import ConfigError
from segfed.sites import load_site


def join(
    kit_folder: Path,
    site_folder: Path,
    *,
    socket: Path | None,
    device: str,
    say: Callable[[str], None],
) -> None:
    """Run a site's agent and node until Ctrl-C or SIGTERM.

    Args:
        kit_folder: The site's kit.
        site_folder: The site; its logs lie there.
        socket: Between node and agent; by default as ``site.toml`` says, or in the runtime folder.
        device: Where to train.
        say: Is told what happens.

    Raises:
        ConfigError: If site, kit or key cannot be used.
        FederationError: If the site has joined already.
    """
    site = load_site(site_folder)
    kit = load_site_kit(kit_folder, site=site.name)
    key = _node_key(site_folder, kit_folder)
    path = socket or socket_path(site, environment=os.environ)
    home = site_folder / "flower"
    home.mkdir(exist_ok=True)
    environment = flower.environment(home)
    agent = Program(
        "agent",
        [
            *(sys.executable, "-c", "from segfed.cli import main; main()"),
            *("federate", "agent", str(site_folder)),
            *("--socket", str(path), "--device", device),
        ],
        environment,
        site_folder / "logs" / "agent.log",
    )
    node = _node(kit_folder, kit, key=key, socket=path, home=home, logs=site_folder / "logs")
    with (
        only_one(home / "join.lock", what=f"`segfed federate join` of the site {site_folder}"),
        until_told_to_stop(),
        Supervisor([agent, node], say=say) as supervisor,
    ):
        say(f"Site {site.name} joins {kit.federation} at {kit.superlink}; Ctrl-C stops it.")
        supervisor.run(each_day=lambda: _remind(kit, say))


def run_node(kit_folder: Path, *, socket: Path, say: Callable[[str], None]) -> None:
    """Run a site's node alone until Ctrl-C or SIGTERM, as a user who cannot read the site.

    Args:
        kit_folder: The site's kit, with its private key; the node's logs lie there.
        socket: Where the site's agent listens, which another user runs.
        say: Is told what happens.

    Raises:
        ConfigError: If kit or key cannot be used.
        FederationError: If its node runs already.
    """
    kit = load_site_kit(kit_folder, site=None)
    home = kit_folder / "flower"
    home.mkdir(exist_ok=True)
    key = _node_key(kit_folder)
    node = _node(kit_folder, kit, key=key, socket=socket, home=home, logs=kit_folder / "logs")
    with (
        only_one(home / "join.lock", what=f"node of the kit {kit_folder}"),
        until_told_to_stop(),
        Supervisor([node], say=say) as supervisor,
    ):
        say(f"The node of site {kit.site} joins {kit.federation} at {kit.superlink}.")
        supervisor.run(each_day=lambda: _remind(kit, say))


def _node(
    kit_folder: Path, kit: SiteKit, *, key: Path, socket: Path, home: Path, logs: Path
) -> Program:
    """The node as a program; it and the relays that it starts run as the user who starts it."""
    return Program(
        "node",
        flower.supernode_command(
            superlink=kit.superlink,
            authority=kit_folder / AUTHORITY_FILE,
            key=key,
            agent_socket=socket,
            appio_port=flower.free_port(),
        ),
        flower.environment(home),
        logs / "node.log",
        reason=flower.REASON,
        ill=flower.HEART_STOPPED,
        # It starts the relays, and nobody starts it again.
        helper="flower-superexec",
    )


def _remind(kit: SiteKit, say: Callable[[str], None]) -> None:
    """Ask for a new certificate of the server in time."""
    if reminder := renewal_reminder(kit, now=datetime.now(UTC)):
        say(reminder)


def _node_key(*folders: Path) -> Path:
    """The site's private key, in the first folder that holds one."""
    for folder in folders:
        if (folder / NODE_KEY).exists():
            return folder / NODE_KEY
    raise ConfigError(
        f"There is no {NODE_KEY} in {folders[0]}, expected the site's private key. Make one with "
        "`segfed federate keys SITE`, and send the public one to the server's operator; a node "
        "that runs alone has it in its kit."
    )
