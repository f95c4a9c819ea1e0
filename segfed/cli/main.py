"""Entry point: puts the command groups together and turns errors into one paragraph."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from segfed.cli import (
    audit,
    console,
    demo,
    evaluate,
    federate,
    label,
    model,
    predict,
    privacy,
    report,
    sample,
    site,
    study,
    train,
)
from segfed.cli import task as task_commands
from segfed.cli.log_lines import LogFormat
from segfed.errors import SegfedError

app = typer.Typer(
    name="segfed",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "Train one 3D segmentation model across hospitals without moving an image, and learn "
        "whether AI-assisted labels are as good to train on as labels drawn by hand."
    ),
    epilog="New here? Run [bold]segfed demo[/bold]: the whole loop on made-up hospitals.",
)
app.command(name="demo")(demo.demo)
app.command(name="sample")(sample.sample)
app.add_typer(task_commands.app, name="task")
app.add_typer(site.app, name="site")
app.add_typer(label.app, name="label")
app.command(name="train")(train.train)
app.add_typer(study.app, name="study")
app.add_typer(federate.app, name="federate")
app.command(name="report")(report.report)
app.add_typer(model.app, name="model")
app.command(name="predict")(predict.predict)
app.command(name="evaluate")(evaluate.evaluate)
app.add_typer(privacy.app, name="privacy")
app.add_typer(audit.app, name="audit")


def _print_version(wanted: bool) -> None:
    """Answer ``--version`` and stop."""
    if wanted:
        console.out.print(f"segfed {importlib.metadata.version('segfed')}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show debug messages, and the traceback of an error.")
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            "--log-format",
            envvar="SEGFED_LOG_FORMAT",
            help="json: a JSON object for each line that is logged, or told by a server or site.",
        ),
    ] = "text",
    version: Annotated[  # noqa: ARG001  (answered by its callback)
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    context.obj = verbose
    console.configure_logging(verbose=verbose, log_format=log_format)


def _explain(message: str) -> None:
    """Print an error as one paragraph; its traceback first, where that is asked for."""
    if "--verbose" in sys.argv:
        console.err.print_exception()
    console.err.print(f"[bold red]Error:[/bold red] {escape(message)}", highlight=False)


def main() -> None:
    """Run the command line: exit 0 done, 1 an error that segfed explains, 2 wrong usage."""
    # Torch's threads spin while they wait for each other: where another process uses the cores
    # too, that costs ten times what it saves. Torch reads this when it is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # MONAI imports MLflow, which otherwise reports usage.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        app()
    except SegfedError as error:
        _explain(str(error))
        sys.exit(1)
    except OSError as error:
        # Python names no file where a write fails half way, as on a full disk.
        path = f"{error.filename}: " if error.filename is not None else ""
        _explain(
            f"{path}{error.strerror or error}; expected to read and write here. Check the path, "
            "its permissions and the space left on the disk, or give another folder; then run "
            "the command again."
        )
        sys.exit(1)
    except KeyboardInterrupt:
        console.err.print(
            "Stopped. Run the command again: a study, a training or an import goes on, a demo "
            "begins anew."
        )
        sys.exit(130)
