"""``segfed site marks`` and ``overlap``: the same scan at two sites, or in two splits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from segfed.cli import console
from segfed.sites import load_site
from segfed.sites.keyed_scans import (
    keyed_scans,
    make_key,
    read_key,
    read_keyed_scans,
    require_sharing,
    write_keyed_scans,
)
from segfed.sites.overlap import same_scans

_FILE = "scan_marks.json"


def marks(
    folder: console.SiteFolder,
    key: Annotated[
        Path, typer.Option("--key", help="The sites' shared key: theirs alone, and of no server.")
    ],
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make the key first; one of the sites does so.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help=f"File to write; default: {_FILE} in the site.")
    ] = None,
) -> None:
    """Write keyed hashes of every scan, by which another site's copy of it is found."""
    site = load_site(folder)
    require_sharing(site)
    secret = make_key(key) if new_key else read_key(key)
    with console.counted(f"marks of {site.name}", total=len(site.cases)) as on_case:
        scans = keyed_scans(site, secret, on_case=on_case)
    path = out or folder / _FILE
    write_keyed_scans(scans, path)
    console.out.print(
        f"{len(scans.scans)} scans, written to {path}; nothing was sent.",
        highlight=False,
        soft_wrap=True,
    )


def overlap(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="What `segfed site marks` wrote, each.")
    ],
    as_json: console.AsJson = False,
) -> None:
    """List scans that two sites have, or two splits; exit 1 if one of a pair is tested on."""
    sites = [read_keyed_scans(path) for path in files]
    pairs = same_scans(sites)
    if as_json:
        console.print_json([asdict(pair) | {"is_across": pair.is_across} for pair in pairs])
    else:
        table = Table("case", "split", "case", "split", "found", "marks shared", box=None)
        for pair in pairs:
            cells = [
                text
                for (site, number), split in zip(pair.cases, pair.splits, strict=True)
                for text in (f"{site} no. {number}", split)
            ]
            table.add_row(*cells, pair.kind, f"{100 * pair.shared:.0f} %")
        n_scans = sum(len(of.scans) for of in sites)
        if pairs:
            console.out.print(table)
        console.out.print(
            f"{len(pairs)} pairs among {n_scans} scans of {len(sites)} site(s). A number is the "
            "case's line in its site's cases.csv, below the header.",
            highlight=False,
        )
    if any(pair.is_across for pair in pairs):
        raise typer.Exit(1)
