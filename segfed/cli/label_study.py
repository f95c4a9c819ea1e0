"""``segfed label assign`` and ``status``: the reader study, and how far it is."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any

import typer
from rich.table import Table

from segfed.cli import console
from segfed.sites import Site, load_site
from segfed.sites.reader_study import Design, assign_study


def assign(
    folder: console.SiteFolder,
    readers: Annotated[
        str, typer.Option("--readers", help="Names of the readers, as they log in: ann,bob.")
    ],
    seed: Annotated[int, typer.Option("--seed", help="Of the draw; the same gives the same.")],
    design: Annotated[
        Design,
        typer.Option(
            "--design", help="Each training case in one arm, or in both with a washout between."
        ),
    ] = "parallel",
    washout_days: Annotated[
        float,
        typer.Option("--washout-days", help="Crossover: days between the readings of a case."),
    ] = 28.0,
    double_read_test: Annotated[
        bool, typer.Option("--double-read-test", help="Let two readers draw every test case.")
    ] = False,
    add: Annotated[
        bool, typer.Option("--add", help="Assign only the cases that nobody has so far.")
    ] = False,
) -> None:
    """Draw who labels which case in which arm; the server enforces it from then on."""
    from segfed.study import current_model

    site = load_site(folder)
    made = assign_study(
        site,
        readers=[name.strip() for name in readers.split(",")],
        design=design,
        seed=seed,
        washout_days=washout_days,
        double_read_test=double_read_test,
        add=add,
    )
    table = Table("reader", "period", "arm", box=None, header_style="bold")
    table.add_column("cases", justify="right")
    counts = Counter((a.reader, a.period, a.arm) for a in made)
    for (reader, period, arm), n in sorted(counts.items()):
        table.add_row(reader, str(period), arm, str(n))
    console.out.print(table)
    console.out.print(f"{len(made)} assignments at {site.name} ({made[0].design}).")
    if any(a.arm == "assisted" for a in made) and current_model(site) is None:
        console.out.print(
            f"Site {site.name} has no published model yet. Publish one before its readers begin: "
            "what they draw without a proposal in the assisted arm is flagged and does not count."
        )


def status(folder: console.SiteFolder, as_json: console.AsJson = False) -> None:
    """Count a site's labels, its readers' progress, and how well they agree; name broken models."""
    from segfed.study import click_model_name, model_fault
    from segfed.study.agreement import reader_agreement, summarize_agreement

    site = load_site(folder)
    pairs = reader_agreement(site)
    found = {
        site.task.name: model_fault(site),
        click_model_name(site.task): model_fault(site, clicks=True),
    }
    faults = {name: fault for name, fault in found.items() if fault}
    tables = {
        "labels": _label_counts(site),
        "readings": _reading_counts(site),
        "agreement": [dict(vars(row)) for row in summarize_agreement(pairs)],
    }
    if as_json:
        known = [vars(p) | {"dice": None if math.isnan(p.dice) else p.dice} for p in pairs]
        counts = {"site": site.name, "cases": len(site.cases), **tables, "pairs": known}
        console.print_json(counts | {"model_faults": faults})
        return
    for rows in filter(None, tables.values()):
        console.out.print(_table(rows))
        console.out.print()
    n_labels = sum(row["n"] for row in tables["labels"])
    console.out.print(f"{len(site.cases)} cases, {n_labels} labels.")
    for name, fault in faults.items():
        console.out.print(
            f"The published model {name!r} cannot be used: {fault}", soft_wrap=True, markup=False
        )


def _label_counts(site: Site) -> list[dict[str, Any]]:
    """Each reader's newest label of a case and arm, by split, arm, origin and status."""
    split_of = {case.case_id: case.split for case in site.cases}
    newest = {(r.case_id, r.arm, r.reader): r for r in site.ledger().records()}
    counts = Counter(
        (str(split_of.get(record.case_id)), record.arm, record.origin, record.status)
        for record in newest.values()
    )
    columns = ("split", "arm", "origin", "status")
    return [dict(zip(columns, key, strict=True)) | {"n": n} for key, n in sorted(counts.items())]


def _reading_counts(site: Site) -> list[dict[str, Any]]:
    """Assigned and finished readings by reader, period and arm."""
    readings = site.ledger().readings()
    keys = [(r.assignment.reader, r.assignment.period, r.assignment.arm) for r in readings]
    done = Counter(key for key, r in zip(keys, readings, strict=True) if not r.is_pending)
    return [
        {"reader": key[0], "period": key[1], "arm": key[2], "assigned": n, "done": done[key]}
        for key, n in sorted(Counter(keys).items())
    ]


def _table(rows: list[dict[str, Any]]) -> Table:
    """Rows with the same keys, numbers to the right."""
    table = Table(box=None, header_style="bold")
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    return table
