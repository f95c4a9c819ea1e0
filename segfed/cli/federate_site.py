"""``segfed federate keys|trust|join|node``: a hospital's side of a federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console
from segfed.cli.kit import NODE_KEY, NODE_PUBLIC_KEY
from segfed.cli.log_lines import say
from segfed.files import sha256_file
from segfed.sites import load_site


def keys(folder: console.SiteFolder) -> None:
    """Make the site's key pair; the private key stays here, send the public one."""
    from segfed.cli.certificates import make_node_keys

    public = load_site(folder).folder / NODE_PUBLIC_KEY
    make_node_keys(folder / NODE_KEY, public)
    console.out.print(
        f"Send {public} to the operator of the federation's server, and tell its hash by another "
        f"way: {sha256_file(public)}. {folder / NODE_KEY} stays here.",
        soft_wrap=True,
        highlight=False,
    )


def trust(
    folder: console.SiteFolder,
    key: Annotated[Path, typer.Argument(metavar="OWNER", help="The owner's public key.")],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call the owner; default: the file's name.")
    ] = None,
) -> None:
    """Trust the owner of studies; each study still needs this site's approval."""
    from segfed.agent import trust as trust_owner

    path = trust_owner(load_site(folder).folder, key, name=name or key.stem)
    console.out.print(
        f"Studies signed with {path} can be approved here. The file's hash is {sha256_file(path)}: "
        "compare it with the owner by another way.",
        soft_wrap=True,
        highlight=False,
    )


def join(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="The site's kit, such as kits/north.")],
    folder: console.SiteFolder,
    socket: Annotated[
        Path | None,
        typer.Option(
            "--socket",
            help="Unix socket between node and agent; default: as site.toml says, else in the "
            "system's runtime folder.",
        ),
    ] = None,
    device: console.Device = "auto",
) -> None:
    """Take part in a federation until Ctrl-C: keeps the site's agent and node running.

    Both run as one user: the node, whose relays run code that the server sends, could read
    whatever the agent reads. `agent` and `node` start them as two.
    """
    from segfed.cli.joining import join as run_site

    run_site(kit, folder, socket=socket, device=device, say=say)
    console.out.print("The site has left the federation.")


def node(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="The site's kit, with its node.key.")],
    socket: Annotated[Path, typer.Option("--socket", help="Unix socket of the site's agent.")],
) -> None:
    """Keep the node alone running until Ctrl-C, as a user who cannot read the site's folder."""
    from segfed.cli.joining import run_node

    run_node(kit, socket=socket, say=say)
    console.out.print("The node has left the federation.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (keys, trust, join, node):
        app.command(command.__name__, rich_help_panel="Each hospital")(command)
