"""``segfed task``: what may be segmented."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from segfed.cli import console
from segfed.sites import Task, list_tasks, load_task

app = typer.Typer(
    no_args_is_help=True,
    help="What can be segmented: image channels, label values, structures.",
)
_NameOrFile = Annotated[
    str, typer.Argument(metavar="TASK", help="A built-in task's name, or the path of a task file.")
]


@app.command("list")
def list_(as_json: console.AsJson = False) -> None:
    """List the built-in tasks."""
    tasks = [load_task(name) for name in list_tasks()]
    if as_json:
        console.print_json([task.model_dump(mode="json") for task in tasks])
        return
    table = Table("task", "what", "channels", "structures", box=None, header_style="bold")
    for task in tasks:
        table.add_row(task.name, task.title, ", ".join(task.channels), ", ".join(task.structures))
    console.out.print(table)


@app.command("show")
def show(name: _NameOrFile, as_json: console.AsJson = False) -> None:
    """Show one task: its channels, label values, structures and sources."""
    task = load_task(name)
    if as_json:
        console.print_json(task.model_dump(mode="json"))
        return
    console.out.print(_summary(task))


@app.command("check")
def check(name: _NameOrFile) -> None:
    """Check a task file that you wrote; every problem is listed at once."""
    task = load_task(name)
    console.out.print(f"{task.name}: the task file is complete and consistent.")


def _summary(task: Task) -> Table:
    """Two columns: what, and its value."""
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("task", f"{task.name}: {task.title}")
    table.add_row("modality", task.modality)
    table.add_row("channels", ", ".join(task.channels))
    table.add_row("label values", ", ".join(f"{v} {n}" for n, v in task.labels.items()))
    for name, values in task.structures.items():
        table.add_row("structure", f"{name} = {{{', '.join(map(str, values))}}}")
    for source, remap in task.remaps.items():
        changes = ", ".join(f"{old}→{new}" for old, new in remap.items())
        table.add_row("source", f"{source}: {changes}")
    return table
