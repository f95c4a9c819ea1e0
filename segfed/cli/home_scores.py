"""``segfed site score`` and ``segfed study combine``: test scores without a case leaving."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from segfed.cli import console
from segfed.files import write_json

if TYPE_CHECKING:
    from segfed.study.at_home import HomeScores

_FILE = "home_scores.json"


def score(
    folder: console.SiteFolder,
    models: Annotated[
        list[Path], typer.Option("--model", help="Folder of a model's bundle; may be repeated.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help=f"File to write; default: {_FILE} in the site.")
    ] = None,
    device: console.Device = "auto",
) -> None:
    """Score models on this site's own test cases, and write the sums that may leave."""
    from segfed.engine import select_device
    from segfed.sites import load_site
    from segfed.study.at_home import score_at_home

    site = load_site(folder)
    with console.counted(f"score at {site.name}", total=len(site.split("test"))) as on_case:
        scores = score_at_home(
            site,
            models,
            device=select_device(device),
            on_case=on_case,
        )
    path = out or folder / _FILE
    write_json(path, scores.model_dump(mode="json"))
    console.out.print(_table([scores]))
    if scores.n_withheld:
        console.out.print(
            f"Withheld: {scores.n_withheld} rows over fewer than "
            f"{site.settings.policy.minimum_metric_cases} cases (minimum_metric_cases of the "
            "site's policy).",
            highlight=False,
        )
    console.out.print(f"Written to {path}; nothing was sent.", highlight=False, soft_wrap=True)


def combine(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="What `segfed site score` wrote, each.")
    ],
    margin: Annotated[
        float, typer.Option("--margin", help="Largest loss of Dice, declared beforehand.")
    ] = 0.02,
    structures: Annotated[
        list[str] | None,
        typer.Option("--structure", help="Declared structure; may be repeated; default: all."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for report.html and report.json.")
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Compare label arms over hospitals, from what each of them scored at home."""
    from segfed.report import HOME_HTML_FILE, write_home_report
    from segfed.study.at_home import judge_at_home, read_home_scores

    sites = [read_home_scores(path) for path in files]
    verdict = judge_at_home(sites, margin=margin, structures=structures or ())
    if out:
        write_home_report(out, sites, margin=margin, structures=structures or ())
    if as_json:
        console.print_json(
            {
                "sites": [of.model_dump(mode="json") for of in sites],
                "verdict": None if verdict is None else asdict(verdict),
            }
        )
        return
    console.out.print(_table(sites))
    console.out.print(
        verdict.sentence if verdict else "No site has models of both arms: nothing is compared.",
        highlight=False,
        soft_wrap=True,
    )
    if out:
        console.out.print(f"Report: {out / HOME_HTML_FILE}", highlight=False, soft_wrap=True)


def _table(sites: list[HomeScores]) -> Table:
    """Dice by site, labels and structure."""
    table = Table("site", "labels", "structure", "Dice", "cases", box=None, header_style="bold")
    for of in sites:
        for row in of.rows:
            if row.metric == "dice":
                name = f"{of.site} (external)" if of.external else of.site
                undefined = f" + {row.n_nan} undefined" if row.n_nan else ""
                table.add_row(
                    name, row.quantity, row.structure, f"{row.mean:.3f}", f"{row.n}{undefined}"
                )
    return table
