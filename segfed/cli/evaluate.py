"""``segfed evaluate``: score a folder of predictions against a folder of references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from segfed.cli import console


def evaluate(
    reference: Annotated[Path, typer.Argument(help="Folder of reference labels.")],
    predicted: Annotated[
        Path, typer.Argument(help="Folder of predicted labels with the same file names.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for scores.csv and summary.json.")],
    profile: Annotated[
        str,
        typer.Option("--profile", help="generic, kits19, kits23, brats2023 or brats2024-gli."),
    ] = "generic",
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="Task whose structures the generic profile scores; default: each label value.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score predictions against references: one row a case, structure and metric."""
    import json

    from segfed.evaluation import evaluate_folders, write_evaluation
    from segfed.sites import load_task

    with console.progress_bars() as progress:
        bar = progress.add_task("score", total=None, note="")

        def advance(case_id: str) -> None:
            progress.update(bar, advance=1, note=case_id)

        evaluation = evaluate_folders(
            reference,
            predicted,
            profile=profile,
            task=load_task(task) if task else None,
            on_case=advance,
        )
    write_evaluation(evaluation, out)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    if as_json:
        console.print_json(summary)
        return
    console.out.print(_table(summary))
    for name in evaluation.missing:
        console.out.print(f"[yellow]no prediction for {name}: scored as an empty one[/yellow]")
    for name in evaluation.extra:
        console.out.print(f"[yellow]no reference for {name}: not scored[/yellow]")
    console.out.print(f"Scores: {out / 'scores.csv'}", soft_wrap=True)


def _table(summary: dict[str, Any]) -> Table:
    """Mean of each metric by structure, with the cases behind it."""
    table = Table(
        "structure",
        "metric",
        pad_edge=False,
        title=f"{summary['n_cases']} cases, profile {summary['profile']}",
        title_justify="left",
        box=None,
        header_style="bold",
    )
    for heading in ("mean", "median", "n", "NaN", "inf."):
        table.add_column(heading, justify="right")
    for structure, content in summary["structures"].items():
        for metric, found in content["metrics"].items():
            values = (_number(found["mean"]), _number(found["median"]))
            counts = (str(found[key]) for key in ("n", "n_nan", "n_infinite"))
            table.add_row(structure, metric, *values, *counts)
    return table


def _number(value: float | None) -> str:
    """Four decimals, or a minus for what does not exist."""
    return "-" if value is None else f"{value:.4f}"
