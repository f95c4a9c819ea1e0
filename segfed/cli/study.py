"""``segfed study``: label arms, training regimes and seeds, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console

app = typer.Typer(
    no_args_is_help=True,
    help="Compare label arms (manual, assisted) and regimes (local, pooled, ensemble, federated).",
)


@app.command("run")
def run(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default: runs/<name of the study>.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Models to train at once; default: one on a GPU, else one a core, at most 4.",
        ),
    ] = None,
) -> None:
    """Train, score and report a study; what an earlier run finished is kept."""
    from segfed.cli.launch import launch_federation
    from segfed.cli.study_progress import StudyProgress
    from segfed.report import summary_table, write_report
    from segfed.study import load_study, run_study

    settings = load_study(study)
    folder = out or Path("runs") / settings.name
    with console.progress_bars() as progress:
        run_study(
            settings,
            out=folder,
            launch_federation=launch_federation,
            on_event=StudyProgress(progress),
            workers=workers,
        )
    if settings.train_split == "warmup":
        console.out.print(
            f"Trained to propose, and not scored. Publish it: segfed model publish {folder} SITE",
            soft_wrap=True,
        )
        return
    report = write_report(folder)
    console.out.print(summary_table(report))
    console.out.print(f"Report: {folder / 'report.html'}", soft_wrap=True)
