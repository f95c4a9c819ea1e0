"""A hospital's part of a federation on this machine: its agent and its node, kept running."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from segfed.cli import flower
from segfed.cli.agent_process import socket_path
from segfed.cli.kit import AUTHORITY_FILE, NODE_KEY, load_site_kit
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
        FederationError: If the kit has expired, or the site has joined already.
    """
    site = load_site(site_folder)
    kit = load_site_kit(kit_folder, site=site.name)
    key = _node_key(kit_folder, site_folder)
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
    node = Program(
        "node",
        flower.supernode_command(
            superlink=kit.superlink,
            authority=kit_folder / AUTHORITY_FILE,
            key=key,
            agent_socket=path,
            appio_port=flower.free_port(),
        ),
        environment,
        site_folder / "logs" / "node.log",
        reason=flower.REASON,
    )
    with (
        only_one(home / "join.lock", what=f"`segfed federate join` of the site {site_folder}"),
        until_told_to_stop(),
        Supervisor([agent, node], say=say) as supervisor,
    ):
        say(f"Site {site.name} joins {kit.federation} at {kit.superlink}; Ctrl-C stops it.")
        supervisor.run()


def _node_key(kit_folder: Path, site_folder: Path) -> Path:
    """The site's private key: its own, or that of a trial on one machine."""
    for folder in (site_folder, kit_folder):
        if (folder / NODE_KEY).exists():
            return folder / NODE_KEY
    raise ConfigError(
        f"There is no {NODE_KEY} in {site_folder}, expected the site's private key. Make one with "
        f"`segfed federate keys {site_folder}`, and send the public one to the server's operator."
    )
