"""``segfed report``: the report of a finished study, made again from its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished study.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Write report.json, report.html and model_card.html, and print the Dice table."""
    from segfed.report import HTML_FILE, summary_table, write_report

    content = write_report(run)
    if as_json:
        console.print_json(content)
        return
    console.out.print(summary_table(content))
    console.out.print(f"Report: {run / HTML_FILE}", soft_wrap=True)
