"""``segfed sample``: made-up hospitals, or CT rendered around real masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console
from segfed.cli.site import counts_table, splits_of


def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the site folders.")],
    task: Annotated[
        str, typer.Option("--task", help="kidney_tumor or brain_tumor.")
    ] = "kidney_tumor",
    sites: Annotated[int, typer.Option("--sites", min=1, help="Sites that train.")] = 3,
    external: Annotated[int, typer.Option("--external", min=0, help="Sites that never train.")] = 1,
    cases: Annotated[
        int, typer.Option("--cases", min=2, help="Training cases a site, on average.")
    ] = 9,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything.")] = 0,
    from_labels: Annotated[
        Path | None,
        typer.Option(
            "--from-labels",
            help="Render CT around the real masks of a KiTS19 folder instead; needs --table.",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", help="With --from-labels: CSV case_ids,site_ids,train_test_split."),
    ] = None,
    spacing_mm: Annotated[
        float | None,
        typer.Option(
            "--spacing-mm",
            min=0.5,
            help="Voxel spacing in mm; default: 5 for CT, 4 for MR. With --from-labels, finer axes "
            "are thinned to it; default: as they are.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="With --from-labels: cases a site.")
    ] = None,
) -> None:
    """Make synthetic sites that differ as hospitals do; reports mark them as made up."""
    from segfed.phantom import CaseCounts, generate_sites, sites_from_labels

    if (from_labels is None) != (table is None):
        raise typer.BadParameter("--from-labels and --table belong together")
    with console.counted("render") as on_case:
        if from_labels is not None and table is not None:
            made = sites_from_labels(
                from_labels,
                table=table,
                out=folder,
                spacing_mm=spacing_mm,
                limit=limit,
                seed=seed,
                on_case=on_case,
            )
        else:
            made = generate_sites(
                folder,
                task=task,
                n_sites=sites,
                n_external=external,
                counts=CaseCounts(train=cases),
                spacing_mm=spacing_mm,
                seed=seed,
                on_case=on_case,
            )
    console.out.print(counts_table({site.name: splits_of(site) for site in made}))
