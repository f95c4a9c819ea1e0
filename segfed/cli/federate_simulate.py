"""``segfed federate simulate``: a study across hospitals, on site folders of one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console
from segfed.cli.status_table import follow_line
from segfed.errors import FederationError
from segfed.protocol import Engine, FederationJob, Manifest, RoundRecord

_START_FILE = "start.safetensors"


def simulate(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY", help="The study: TOML, or a complete manifest.")
    ],
    sites: Annotated[list[Path], typer.Argument(metavar="SITE…", help="The sites' folders.")],
    out: Annotated[Path, typer.Option("--out", help="Run folder; one that was begun goes on.")],
    engine: Annotated[
        Engine,
        typer.Option(
            "--engine",
            help="in-process: one site after the other; ray: side by side, on all cores or GPUs.",
        ),
    ] = "in-process",
    device: console.Device = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Cores that a site takes; other numbers round otherwise."
        ),
    ] = None,
    mlflow: console.MLflowStore = None,
) -> None:
    """Train a study as hospitals would, before any of them is asked.

    The server, the messages and the sites' agents are those of a federation across hospitals, and
    so are the weights that it ends with: same study, same device, same number of threads. Nothing
    is signed or approved.
    """
    from segfed.cli.launch import launch_federation
    from segfed.cli.manifest_file import read_manifest
    from segfed.study.tracking import track_federation

    if len(sites) < 2:
        raise FederationError(
            "Found one site, expected two or more: one site alone is no federation. Name more "
            "folders."
        )
    manifest = read_manifest(study)
    job = FederationJob(
        manifest=manifest,
        sites=tuple(site.resolve() for site in sites),
        initial_weights=_start(manifest, out),
        out=out.resolve(),
        device=device,
        threads=threads,
        engine=engine,
    )

    def tell(record: RoundRecord) -> None:
        console.err.print(follow_line(record, rounds=manifest.rounds), highlight=False)
        log_round(record)

    with track_federation(manifest, store=mlflow, folder=out) as log_round:
        state = launch_federation(job, on_round=tell)
    console.out.print(
        f"{state.rounds_done} rounds are done, of which round {state.best_round} is the best; its "
        f"weights lie in {out}.",
        soft_wrap=True,
    )


def _start(manifest: Manifest, out: Path) -> Path:
    """The weights from which the server of a federation would start, too."""
    from segfed.engine import build_network, read_plan, write_weights

    path = out.resolve() / _START_FILE
    write_weights(path, build_network(read_plan(manifest.plan), seed=manifest.seed).state_dict())
    return path


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate", rich_help_panel="The owner of a study")(simulate)
