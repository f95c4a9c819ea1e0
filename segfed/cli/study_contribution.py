"""``segfed study contribution``: what each site adds to the federated model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from segfed.cli import console

if TYPE_CHECKING:
    from rich.progress import Progress

    from segfed.study.contribution import ContributionPlan, ContributionRecord, Interval
    from segfed.study.events import OnEvent, StudyEvent


def contribution(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished study.")],
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", min=0, help="A seed of the study; may be repeated; default: all."),
    ] = None,
    arm: Annotated[
        str | None, typer.Option("--arm", help="Labels trained on; default: the study's first.")
    ] = None,
    orders: Annotated[
        int | None,
        typer.Option(
            "--orders",
            min=2,
            help="Draw so many orders of sites for approximate Shapley values, where sites are "
            "many; all groups are trained otherwise.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Models to train at once.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show how much would be trained; train nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print contribution.json.")] = False,
) -> None:
    """Measure what each site adds: the model without it, and its Shapley value."""
    from segfed.cli.launch import launch_federation
    from segfed.report.text import duration
    from segfed.study.contribution import (
        CONTRIBUTION_FILE,
        measure_contributions,
        plan_contributions,
    )

    plan = plan_contributions(
        run,
        launch_federation=launch_federation,
        workers=workers,
        arm=arm,
        seeds=seeds or (),
        n_orders=orders,
    )
    console.err.print(
        f"{len(plan.models)} models of groups of sites: {plan.n_to_train} to train, the others are "
        f"there; about {duration(plan.seconds_left)} by the time that the study took, "
        f"{plan.run.workers} at once. What is done is kept when this is stopped.",
        soft_wrap=True,
        highlight=False,
    )
    if dry_run:
        return
    with console.progress_bars() as progress:
        record = measure_contributions(plan, on_event=_shown(plan, progress))
    if as_json:
        console.print_json(record.model_dump(mode="json"))
        return
    console.out.print(_table(record))
    one_seed = " Of one seed: they do not cover what differs from training to training."
    console.out.print(
        f"In Dice, with 95 % intervals.{one_seed if len(record.seeds) == 1 else ''} Below 0 the "
        f"model is better without the site. Written to {run / CONTRIBUTION_FILE}; "
        f"`segfed report {run}` shows it.",
        soft_wrap=True,
        highlight=False,
    )


def _shown(plan: ContributionPlan, progress: Progress) -> OnEvent:
    """Shows how many models are trained, and how many test cases scored."""
    from segfed.study.events import CaseScored, TrainingAdvanced, TrainingFinished
    from segfed.study.models import UNTRAINED

    n_trained = sum(found.model.regime != UNTRAINED for found in plan.models)
    training = progress.add_task("train groups of sites", total=n_trained, note="")
    scoring = progress.add_task("predict and score", total=plan.n_predictions, note="")

    def show(event: StudyEvent) -> None:
        match event:
            case TrainingAdvanced():
                progress.update(training, note=f"{event.model}: {event.done}")
            case TrainingFinished():
                progress.advance(training)
            case CaseScored():
                progress.advance(scoring)

    return show


def _table(record: ContributionRecord) -> Table:
    """A row for each site."""
    seeds = f"seed{'s' if len(record.seeds) > 1 else ''} {', '.join(map(str, record.seeds))}"
    how = "exact" if record.n_orders is None else f"of {record.n_orders} orders"
    table = Table(
        "site", "its own cases lose without it", "the other sites' lose", f"Shapley value, {how}",
        box=None, title=f"What each site adds ({record.arm} labels, {seeds})", title_justify="left",
    )  # fmt: skip
    for row in record.sites:
        table.add_row(row.site, *map(_interval, (row.own, row.others, row.shapley)))
    return table


def _interval(found: Interval) -> str:
    """A figure, with its interval where it has one."""
    if found.low is None or found.high is None:
        return f"{found.mean:+.3f} (no interval)"
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
