"""``segfed site fingerprint`` and ``segfed site plan``: a plan that nobody saw a case for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from segfed.cli import console
from segfed.files import write_text
from segfed.protocol import Arm
from segfed.settings import toml_table
from segfed.sites import (
    Fingerprint,
    Task,
    fingerprint_site,
    load_site,
    load_task,
    read_fingerprint,
    write_fingerprint,
)

if TYPE_CHECKING:
    from segfed.engine import Plan

_FILE = "fingerprint.json"


def fingerprint(
    folder: console.SiteFolder,
    out: Annotated[
        Path | None, typer.Option("--out", help=f"File to write; default: {_FILE} in the site.")
    ] = None,
    arm: Annotated[Arm, typer.Option("--arm", help="Whose labels are measured.")] = "manual",
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Cases read at the same time.")
    ] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the fingerprint too.")] = False,
) -> None:
    """Measure the training cases, in counts that say nothing about a single one."""
    site = load_site(folder)
    n_cases = len(site.split("train"))
    with console.counted(f"fingerprint {site.name}", total=n_cases) as on_case:
        measured = fingerprint_site(
            site,
            arm=arm,
            workers=workers,
            on_case=on_case,
        )
    path = out or folder / _FILE
    write_fingerprint(measured, path)
    if as_json:
        console.print_json(measured.as_json())
        return
    console.out.print(_measures(measured))
    if measured.withheld:
        fewest = site.settings.policy.minimum_metric_cases
        console.out.print(
            f"Withheld: {', '.join(measured.withheld)}, because fewer than {fewest} labelled "
            "training case(s) have them (minimum_metric_cases of the site's policy).",
            highlight=False,
        )
    console.out.print(f"Written to {path}; nothing was sent.", highlight=False)


def plan(
    fingerprints: Annotated[
        list[Path], typer.Argument(metavar="FINGERPRINT…", help="One file of each site.")
    ],
    task: Annotated[str, typer.Option("--task", help="Built-in task, or path of a task file.")],
    gpu_memory_gb: Annotated[
        float,
        typer.Option("--gpu-memory-gb", min=0.1, help="Memory of the federation's smallest GPU."),
    ],
    out: Annotated[Path, typer.Option("--out", help="TOML file to write.")] = Path("plan.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON too.")] = False,
) -> None:
    """Make the plan that suits the cases of all sites and the smallest GPU."""
    from segfed.engine import plan_for, plan_table, summarise, training_bytes

    of_task, sites = load_task(task), [read_fingerprint(path) for path in fingerprints]
    summary = summarise(of_task, sites)
    made = plan_for(of_task, summary, gpu_memory_gb=gpu_memory_gb)
    table = plan_table(made)
    write_text(out, _as_toml(of_task, made, table=table, sites=sites))
    needed = training_bytes(made) / 1e9
    if as_json:
        console.print_json({"window_hu": made.window_hu, "plan": table, "gpu_memory_gb": needed})
        return
    console.out.print(
        f"{out}: spacing {_by(made.spacing_mm)} mm, patch {_by(made.patch_voxels)}, "
        f"{len(made.features)} levels, batch {made.batch_size}, about {needed:.1f} GB; from "
        f"{summary.n_cases} cases of {len(sites)} site(s).",
        highlight=False,
    )
    if made.modality == "CT" and summary.window_hu is None:
        console.out.print(
            "No site measured intensities inside structures: window_hu is the task's own."
        )


def _measures(measured: Fingerprint) -> Table:
    """Medians, for the person who decides whether the file may leave."""
    table = Table("median of", "value", box=None, header_style="bold")
    for name in ("spacing_mm", "size_voxels", "extent_mm"):
        axes = getattr(measured, name)
        table.add_row(f"{name} (R, A, S)", _by([axis.quantile(0.5) for axis in axes]))
    for name, volumes in measured.volume_ml.items():
        table.add_row(f"{name}, ml, {volumes.total} cases", f"{volumes.quantile(0.5):.3g}")
    table.caption = f"{measured.n_cases} training cases of {measured.site}"
    return table


def _as_toml(
    task: Task, made: Plan, *, table: dict[str, object], sites: Sequence[Fingerprint]
) -> str:
    """The plan as a task file holds it, with what it was made from."""
    origin = "".join(f"#   {s.site}: {s.n_cases} cases, {s.sha256[:12]}\n" for s in sites)
    window = "" if made.window_hu is None else f"window_hu = {json.dumps(made.window_hu)}\n\n"
    return (
        f"# Made from the fingerprints of\n{origin}"
        f"# Goes into the file of task {task.name}; a study file takes the [plan] table only.\n"
        f"{window}[plan]\n{toml_table(table)}"
    )


def _by(values: Sequence[float]) -> str:
    """Three numbers in one cell."""
    return " x ".join(f"{value:.4g}" for value in values)
