"""``segfed site``: the folder that a hospital owns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.markup import escape
from rich.table import Table

from segfed.cli import console, home_scores, planning, site_overlap
from segfed.protocol import Split
from segfed.settings import validated
from segfed.sites import Site, SiteSettings, create_site, load_site
from segfed.sites.imports import DataFormat, import_data_set

app = typer.Typer(no_args_is_help=True, help="A hospital's folder: its cases, labels and policy.")


@app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new site.")],
    task: Annotated[str, typer.Option("--task", help="Built-in task, or the path of a task file.")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name in studies and reports; default: the folder's."),
    ] = None,
    contact: Annotated[str, typer.Option("--contact", help="Whom to ask about this site.")] = "",
    external: Annotated[
        bool, typer.Option("--external", help="Never train here: only score models on its cases.")
    ] = False,
) -> None:
    """Create an empty site; then import cases into it."""
    raw = {
        "name": name or folder.resolve().name,
        "task": task,
        "contact": contact,
        "external": external,
    }
    settings = validated(raw, SiteSettings, source="The new site")
    site = create_site(folder, settings)
    console.out.print(f"Site {site.name} for task {site.task.name} lies in {folder}.")


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="Folder of the data set; with --format nifti its CSV table.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the site folders, which are created as needed.")
    ],
    data_format: Annotated[
        DataFormat, typer.Option("--format", help="How the data set lies on disk.")
    ],
    task: Annotated[str, typer.Option("--task", help="Built-in task, or path of a task file.")],
    labels_from: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="Where the labels come from (msd, brats2021, brats2023, kits19, kits23, or task: "
            "they already hold the task's values). Picks the task's table of label values.",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", help="CSV with case_id and any of site, split, patient_id."),
    ] = None,
    sites: Annotated[
        str | None,
        typer.Option(
            "--sites",
            help="Without a site column: a site's name, or cases of each as a=100,b=50.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the split into sites.")] = 0,
) -> None:
    """Read a published data set into sites; a case is there whole or not at all."""
    with console.counted("import") as on_case:
        summary = import_data_set(
            source,
            out,
            data_format=data_format,
            task=task,
            source=labels_from,
            table=table,
            sites=_parse_sites(sites) if sites else None,
            seed=seed,
            on_case=on_case,
        )
    console.out.print(counts_table(summary.counts))
    console.out.print(
        f"{summary.n_new} cases imported, {summary.n_known} were there already, "
        f"{len(summary.left_out)} left out."
    )


@app.command("check")
def check(folder: console.SiteFolder, as_json: console.AsJson = False) -> None:
    """Read every image and label, and list everything that would stop a training."""
    from segfed.sites import check_site

    site = load_site(folder)
    with console.counted(f"check {site.name}", total=len(site.cases)) as on_case:
        problems = check_site(site, on_case=on_case)
    if as_json:
        rows = [{**asdict(problem), "file": str(problem.file)} for problem in problems]
        console.print_json({"site": site.name, "cases": len(site.cases), "problems": rows})
    else:
        console.out.print(counts_table({site.name: splits_of(site)}))
        for problem in problems:
            console.out.print(f"[red]✗[/red] {escape(problem.message)}", highlight=False)
        ending = "" if len(problems) == 1 else "s"
        console.out.print(f"{len(site.cases)} cases, {len(problems)} problem{ending}.")
    if problems:
        raise typer.Exit(1)


app.command("fingerprint")(planning.fingerprint)
app.command("plan")(planning.plan)
app.command("marks")(site_overlap.marks)
app.command("overlap")(site_overlap.overlap)
app.command("score")(home_scores.score)


def _parse_sites(text: str) -> Mapping[str, int | None]:
    """``a=100,b=50,c`` as cases per site; a name alone takes all that are left."""
    sizes: dict[str, int | None] = {}
    for part in text.split(","):
        name, _, size = part.strip().partition("=")
        if not name or (size and not size.isdigit()) or name in sizes:
            raise typer.BadParameter(f"--sites {text!r}: write it as a=100,b=50, each name once")
        sizes[name] = int(size) if size else None
    return sizes


def splits_of(site: Site) -> Mapping[Split, int]:
    """Cases of a site by split."""
    return Counter(case.split for case in site.cases)


def counts_table(counts: Mapping[str, Mapping[Split, int]]) -> Table:
    """Cases per site and split."""
    table = Table("site", box=None, header_style="bold")
    for split in (*get_args(Split), "all"):
        table.add_column(split, justify="right")
    for name, count in counts.items():
        cells = [count.get(split, 0) for split in get_args(Split)]
        table.add_row(name, *map(str, cells), str(sum(cells)))
    return table
