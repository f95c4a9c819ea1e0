"""A site's agent as a process of its own: where it listens, and how it starts and stops."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from segfed.cli import console
from segfed.sites import Site, load_site


def run_agent(site_folder: Path, *, socket: Path | None, device: str) -> None:
    """Serve a site's agent until SIGTERM or Ctrl-C.

    Args:
        site_folder: The site.
        socket: Where to listen; by default as ``site.toml`` says, or in the runtime folder.
        device: Where to train.

    Raises:
        ConfigError: If site, socket or device cannot be used.
        FederationError: If the site has an agent already.
    """
    # Imported here: torch takes seconds, which other commands need not wait for.
    from segfed.agent import ResidentAgent, approved_studies
    from segfed.agent.listening import listening_socket, make_server, only_agent
    from segfed.agent.service import JobDesk, create_app
    from segfed.engine import select_device

    site = load_site(site_folder)
    settings = site.settings.agent
    path = socket or socket_path(site, environment=os.environ)
    peers = frozenset(settings.peers) or {os.geteuid()}
    desk = JobDesk(ResidentAgent(site_folder, device=select_device(device)))
    app = create_app(desk, largest_message_bytes=settings.largest_message_mb * 1024**2)
    server = make_server(app, peers=peers)
    with (
        only_agent(site_folder),
        listening_socket(path, shared=peers != {os.geteuid()}) as listener,
    ):
        # uvicorn stops at these and raises them again, once it has stopped: that is no failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        studies = ", ".join(manifest.study for manifest in approved_studies(site_folder))
        console.out.print(
            f"The agent of site {site.name} listens at {path} for user "
            f"{', '.join(map(str, sorted(peers)))}. Approved studies: {studies or 'none yet'}. "
            "Ctrl-C stops it.",
            soft_wrap=True,
        )
        server.run(sockets=[listener])
    if not desk.is_busy:
        console.out.print("The agent has stopped.")
        return
    console.out.print("The agent has stopped; the round that it was at begins again next time.")
    # Python would wait for the training thread. What that has not stored yet is done again.
    sys.stdout.flush()
    os._exit(0)


def socket_path(site: Site, *, environment: Mapping[str, str]) -> Path:
    """Where a site's agent listens: as its settings say, or in the system's runtime folder.

    Args:
        site: The site.
        environment: The process's environment; ``RUNTIME_DIRECTORY`` is systemd's for a service,
            ``XDG_RUNTIME_DIR`` that of a user's session.
    """
    if site.settings.agent.socket:
        return Path(site.settings.agent.socket)
    name = f"{site.name}.sock"
    if "RUNTIME_DIRECTORY" in environment:
        return Path(environment["RUNTIME_DIRECTORY"]) / name
    if "XDG_RUNTIME_DIR" in environment:
        return Path(environment["XDG_RUNTIME_DIR"]) / "segfed" / name
    return Path(tempfile.gettempdir()) / f"segfed-{os.geteuid()}" / name
