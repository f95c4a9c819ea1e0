"""``segfed study``: label arms, training regimes and seeds, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console, home_scores, study_contribution

app = typer.Typer(
    no_args_is_help=True,
    help="Compare label arms (manual, assisted) and regimes (local, pooled, ensemble, federated).",
)

app.command("combine")(home_scores.combine)
app.command("contribution")(study_contribution.contribution)


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
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="FILTER",
            help="Work on these models only: regime=local, arm=manual, seed=0, site=north, or the "
            "value alone; may be given several times.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and how long; train nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print report.json; with --dry-run, the plan.")
    ] = False,
    mlflow: console.MLflowStore = None,
) -> None:
    """Train, score and report a study; what an earlier run finished is kept."""
    from segfed.cli.launch import launch_federation
    from segfed.cli.study_plan import plan_json, plan_table
    from segfed.cli.study_progress import StudyProgress
    from segfed.report import summary_table, write_report
    from segfed.study import load_study, plan_study, run_study
    from segfed.study.tracking import to_both, track_study

    settings = load_study(study)
    folder = out or Path("runs") / settings.name
    if dry_run:
        plan = plan_study(
            settings,
            out=folder,
            launch_federation=launch_federation,
            workers=workers,
            only=only or (),
        )
        if as_json:
            console.print_json(plan_json(plan))
        else:
            console.out.print(plan_table(plan))
        console.show_warnings(plan.warnings)
        return
    with track_study(settings, store=mlflow, folder=folder) as tracker:
        with console.progress_bars() as progress:
            run_study(
                settings,
                out=folder,
                launch_federation=launch_federation,
                on_event=to_both(StudyProgress(progress), tracker),
                workers=workers,
                only=only or (),
            )
        if not settings.compares:
            console.out.print(
                f"Trained to propose, and not scored. Publish it: segfed model publish {folder} "
                "SITE",
                soft_wrap=True,
            )
            return
        report = write_report(folder)
        if tracker is not None:
            tracker.add_report(report, folder)
    if as_json:
        console.print_json(report)
        return
    console.out.print(summary_table(report))
    console.out.print(f"Report: {folder / 'report.html'}", soft_wrap=True)
