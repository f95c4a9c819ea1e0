"""``segfed federate``: studies across hospitals, and each hospital's part in them."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console, federate_server, federate_simulate, federate_site
from segfed.cli.agent_process import run_agent
from segfed.cli.federation_code import code_sha256
from segfed.cli.manifest_file import read_manifest
from segfed.cli.study_request import request_table
from segfed.files import write_text
from segfed.sites import load_site
from segfed.sites.keyed_scans import read_keyed_scans
from segfed.sites.overlap import require_separate

app = typer.Typer(no_args_is_help=True, help="Studies across hospitals.")
federate_site.register(app)
federate_server.register(app)
federate_simulate.register(app)


@app.command("sign", rich_help_panel="The owner of a study")
def sign(
    manifest: Annotated[
        Path, typer.Argument(metavar="STUDY", help="The study: TOML, or a complete manifest.")
    ],
    key: Annotated[Path, typer.Option("--key", help="The owner's private key (Ed25519, PEM).")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the signed manifest.")],
    marks: Annotated[
        list[Path] | None,
        typer.Option("--marks", help="What `segfed site marks` wrote at a site; may be repeated."),
    ] = None,
) -> None:
    """Sign a study, so that hospitals can tell whose it is.

    The manifest declares the hash of the federation's code as it is installed here, unless it
    declares one already. With the marks of all sites a study is refused in which one site tests
    on a scan that another has in another split.
    """
    from segfed.agent import sign as sign_manifest

    study = read_manifest(manifest)
    if marks:
        twice = require_separate([read_keyed_scans(path) for path in marks])
        console.show_warnings([f"Counts twice: {phrase}" for phrase in twice])
    declared = study.bundle_sha256 or code_sha256()
    signed = sign_manifest(study.model_copy(update={"bundle_sha256": declared}), key)
    write_text(out, signed.model_dump_json(indent=2) + "\n")
    console.out.print(
        f"{out} is the study {signed.manifest.study!r} with the manifest "
        f"{signed.manifest.sha256}. Send it to every hospital, and tell each the hash by another "
        "way.",
        soft_wrap=True,
    )


@app.command("approve", rich_help_panel="Each hospital")
def approve(
    folder: console.SiteFolder,
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="The signed manifest of the study.")
    ],
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Refuse the study, also one approved before.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Annotated[
        str | None, typer.Option("--by", help="Who decides; default: you, as logged in here.")
    ] = None,
) -> None:
    """Show what a study wants of this hospital, and record the decision."""
    from segfed.agent import check_signature, decide, read_signed

    site, signed = load_site(folder), read_signed(manifest)
    signed_by = None if refuse else check_signature(signed, folder)
    console.out.print(request_table(site, signed.manifest, signed_by=signed_by))
    verb = "Refuse" if refuse else "Approve"
    if not yes:
        typer.confirm(f"{verb} this study for site {site.name}?", abort=True)
    decision = decide(
        site,
        signed,
        approved=not refuse,
        by=by or getpass.getuser(),
        at=datetime.now(UTC),
    )
    console.out.print(
        f"{'Approved' if decision.approved else 'Refused'} by {decision.by}; the agent heeds it at "
        "its next job.",
        soft_wrap=True,
    )


@app.command("agent", rich_help_panel="Each hospital")
def agent(
    folder: console.SiteFolder,
    socket: Annotated[
        Path | None, typer.Option("--socket", help="Path of the Unix socket for the relay.")
    ] = None,
    device: console.Device = "auto",
) -> None:
    """Run the hospital's own agent: it trains for approved studies until you press Ctrl-C."""
    run_agent(folder, socket=socket, device=device)
