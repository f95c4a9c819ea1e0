"""``segfed report``: the report of a finished study, made again from its records."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console
from segfed.errors import ConfigError


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished study.")],
    pdf: Annotated[
        bool,
        typer.Option("--pdf", help="Print report and model card as PDF too; needs Chromium."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Write report.json, report.html and model_card.html, and print the Dice table."""
    from segfed.report import CARD_FILE, HTML_FILE, print_page, summary_table, write_report

    # Before the work: a missing browser is found now, and not after it.
    browser = _browser() if pdf else None
    content = write_report(run)
    pages = [run / HTML_FILE, run / CARD_FILE]
    printed = [print_page(p, p.with_suffix(".pdf"), browser=browser) for p in pages if browser]
    if as_json:
        console.print_json(content)
        return
    console.out.print(summary_table(content))
    console.out.print(f"Report: {run / HTML_FILE}", soft_wrap=True)
    for path in printed:
        console.out.print(f"PDF: {path}", soft_wrap=True)


def _browser() -> str:
    """The first installed browser that prints.

    Raises:
        ConfigError: If there is none.
    """
    from segfed.report import BROWSERS

    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise ConfigError(
        f"Found none of {', '.join(BROWSERS)} on the PATH; expected a browser that prints the "
        "report. Install Chromium (such as `apt install chromium`) or Chrome, or leave out --pdf "
        "and print report.html from any browser."
    )
