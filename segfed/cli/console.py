"""What every command shares: where output goes, how a failure reads, how long work is shown."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from segfed.cli.log_lines import LogFormat, json_handler, tell_story

out = Console()
"""Results: one summary per command, on stdout."""

err = Console(stderr=True)
"""Progress bars, log lines and errors, on stderr."""

SiteFolder = Annotated[Path, typer.Argument(metavar="SITE", help="The site's folder.")]
"""The argument of commands about a site."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""The option of commands that a program may call."""

Device = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]
"""The option of commands that compute."""

MLflowStore = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="STORE",
        help="Log to MLflow: 'local' for a file beside the run (look at it with `mlflow ui "
        "--backend-store-uri sqlite:///RUN/mlflow.db`), 'sqlite:///FILE', or a server's address.",
    ),
]
"""The option of commands that train."""


def print_json(content: Any) -> None:
    """Write one JSON document to stdout, for a program to read."""
    json.dump(content, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def show_warnings(warnings: Iterable[str]) -> None:
    """One line each, on stderr."""
    for warning in warnings:
        err.print(f"[yellow]Warning:[/yellow] {escape(warning)}", highlight=False)


def configure_logging(*, verbose: bool, log_format: LogFormat = "text") -> None:
    """Send log lines to stderr: the story of a run, or with ``verbose`` its shapes and timings."""
    handler: logging.Handler = RichHandler(console=err, show_path=False, log_time_format="%H:%M:%S")
    handler.setFormatter(logging.Formatter("%(message)s"))
    if log_format == "json":
        handler = json_handler(sys.stderr)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    tell_story(out, log_format)
    for name in ("segfed", "federation", "transforms"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)


def progress_bars() -> Progress:
    """Progress bars on stderr; on a terminal they move, in a log file they leave one line."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", justify="left"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}[/dim]"),
        console=err,
    )


@contextmanager
def counted(title: str, *, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; yields what to call with the number done and the number in all."""
    with progress_bars() as progress:
        bar = progress.add_task(title, total=total, note="")
        yield lambda done, n_all: progress.update(bar, completed=done, total=n_all)
