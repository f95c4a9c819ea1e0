"""``segfed federate provision|serve|submit|status``: the operator's side of a federation."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console
from segfed.cli.kit import KIT_FILE, FederationSettings, ServerKit, expiry_warning
from segfed.cli.log_lines import say
from segfed.cli.progress import submitted_studies
from segfed.cli.status_table import follow_line, status_json, status_table
from segfed.errors import FederationError
from segfed.protocol import RoundRecord
from segfed.settings import load_toml

_Kit = Annotated[Path, typer.Argument(metavar="KIT", help="The server's kit, such as kits/server.")]


def provision(
    settings: Annotated[
        Path, typer.Argument(metavar="FEDERATION", help="federation.toml: who takes part.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the kits.")],
    make_keys: Annotated[
        bool,
        typer.Option(
            "--make-keys", help="Make missing keys of the sites, too: for a trial on one machine."
        ),
    ] = False,
) -> None:
    """Make start-up kits for the server and each site, or renew them.

    A site that is no longer named is sent away, and one with another public key let in by that
    alone, when the server starts again or a study is submitted.
    """
    from segfed.cli.provision import provision as make_kits

    kits = make_kits(
        load_toml(settings, FederationSettings, kind="federation"),
        folder=settings.resolve().parent,
        out=out,
        now=datetime.now(UTC),
        make_keys=make_keys,
    )
    console.out.print(
        f"{len(kits)} kits lie in {out}: start the server from {kits[0]}, send each site its own. "
        f"Keep {out / 'authority'} to yourself: whoever has it can pose as the server.",
        soft_wrap=True,
    )


def serve(kit: _Kit) -> None:
    """Run the federation's server until Ctrl-C; it lets in the kit's sites and nobody else."""
    from segfed.cli.server import serve as run_server

    run_server(kit, say=say)
    console.out.print("The server has stopped.")


def submit(
    kit: _Kit,
    study: Annotated[Path, typer.Argument(metavar="SIGNED", help="The signed manifest.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut short.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait for the end of the study.")
    ] = False,
    mlflow: console.MLflowStore = None,
) -> None:
    """Start a signed study, and follow it to its end: exit code 0 means that it is finished.

    Ctrl-C leaves it running, and ends with 130.
    """
    from segfed.agent import read_signed
    from segfed.cli.submission import follow
    from segfed.cli.submission import submit as start
    from segfed.study.tracking import track_federation

    if detach and mlflow is not None:
        raise typer.BadParameter(
            "MLflow is told by who follows the study, and --detach follows none: leave out one.",
            param_hint="--mlflow",
        )
    signed = read_signed(study)
    folder = start(kit, signed, resume=resume, say=say)
    rounds = signed.manifest.rounds
    say(f"Study {signed.manifest.study!r} has started; its run lies in {folder.run}.")
    if detach:
        return

    def tell(record: RoundRecord) -> None:
        say(follow_line(record, rounds=rounds))
        log_round(record)

    try:
        with track_federation(signed.manifest, store=mlflow, folder=folder.root) as log_round:
            done = follow(kit, folder, on_round=tell)
    except KeyboardInterrupt:
        say("The study goes on without you: see `segfed federate status`.")
        raise typer.Exit(130) from None
    console.out.print(status_table(done, online=None))


def status(kit: _Kit, as_json: console.AsJson = False) -> None:
    """Show how the last submitted study goes; exit code 1 if it stopped before its end.

    A certificate that expires soon is announced on stderr.
    """
    from segfed.cli.server import online_sites
    from segfed.cli.submission import current_progress

    studies = submitted_studies(kit)
    if not studies:
        raise FederationError(
            f"{kit} holds no submitted study, expected one. Start one with `segfed federate "
            "submit`."
        )
    progress, online = current_progress(kit, studies[-1]), online_sites(kit)
    if as_json:
        console.print_json(status_json(progress, online=online))
    else:
        console.out.print(status_table(progress, online=online))
    settings = load_toml(kit / KIT_FILE, ServerKit, kind="server's kit")
    if warning := expiry_warning(settings, now=datetime.now(UTC)):
        console.show_warnings([warning])
    if progress.state == "stopped":
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (provision, serve, submit, status):
        app.command(command.__name__, rich_help_panel="The server's operator")(command)
