"""``segfed label history``, ``approve``, ``reject``, ``reopen`` and ``export``."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from segfed.cli import console
from segfed.protocol import Arm
from segfed.sites import load_site
from segfed.sites.export import export_labels
from segfed.sites.review import Decision, review_label

_Cases = Annotated[list[str], typer.Argument(metavar="CASE…", help="One or more cases.")]
_Reviewer = Annotated[
    str | None,
    typer.Option("--reviewer", help="Who decides; default: you, as logged in here."),
]
_Reader = Annotated[
    str | None, typer.Option("--reader", help="Whose label, where several readers have one.")
]
_Arm = Annotated[Arm | None, typer.Option("--arm", help="Which arm's label, where there are both.")]


def approve(
    folder: console.SiteFolder,
    cases: _Cases,
    reviewer: _Reviewer = None,
    reader: _Reader = None,
    arm: _Arm = None,
) -> None:
    """Approve labels, as somebody else than their reader."""
    _review(folder, cases, "approved", reviewer=reviewer, reader=reader, arm=arm)


def reject(
    folder: console.SiteFolder,
    cases: _Cases,
    reviewer: _Reviewer = None,
    reader: _Reader = None,
    arm: _Arm = None,
) -> None:
    """Reject labels: they count no more, and their reader is offered the cases again."""
    _review(folder, cases, "rejected", reviewer=reviewer, reader=reader, arm=arm)


def reopen(
    folder: console.SiteFolder,
    cases: _Cases,
    reviewer: _Reviewer = None,
    reader: _Reader = None,
    arm: _Arm = None,
) -> None:
    """Offer cases to their reader again; until then their labels do not count."""
    _review(folder, cases, "reopened", reviewer=reviewer, reader=reader, arm=arm)


def history(
    folder: console.SiteFolder,
    case_id: Annotated[str, typer.Argument(metavar="CASE", help="The case.")],
    as_json: console.AsJson = False,
) -> None:
    """Show every version of a case's labels, and what each cost its reader."""
    from segfed.study.history import case_history, version_json

    site = load_site(folder)
    rows = [version_json(version) for version in case_history(site, case_id)]
    if as_json:
        console.print_json({"site": site.name, "case": case_id, "versions": rows})
        return
    for row in rows:
        console.out.print(_described(row), soft_wrap=True, highlight=False)
    noun = "version" if len(rows) == 1 else "versions"
    console.out.print(f"{len(rows)} {noun} of {case_id} at {site.name}; times are UTC.")


def export(
    folder: console.SiteFolder,
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder.")],
    licence: Annotated[
        str, typer.Option("--licence", help="SPDX identifier of the labels' licence.")
    ] = "CC-BY-4.0",
    include_submitted: Annotated[
        bool, typer.Option("--include-submitted", help="Also labels that nobody has reviewed.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Keep the readers' names instead of reader-1, ….")
    ] = False,
) -> None:
    """Write approved labels as a data set with provenance table and licence."""
    site = load_site(folder)
    rows = export_labels(
        site, out, licence=licence, include_submitted=include_submitted, names=names
    )
    console.out.print(
        f"{len(rows)} labels of {len({row.case for row in rows})} cases lie in {out}. Before you "
        "publish them, make sure that the case names identify nobody."
    )


def _described(row: Mapping[str, Any]) -> str:
    """A version in a few lines: what it is, and, unless it is a review, what it cost its reader."""
    counts = "  ← counts" if row["counts"] else ""
    if row["reviewed_by"]:
        what = f"{row['reader']}'s {row['arm']} label {row['status']} by {row['reviewed_by']}"
        return f"record {row['record_id']}, {_minute(row['reviewed_at'])}: {what}{counts}"
    period = f", period {row['period']}" if row["period"] else ""
    what = f"{row['reader']}, {row['arm']} arm{period}: {row['origin']}, {row['status']}"
    lines = [f"record {row['record_id']}, {_minute(row['submitted_at'])}: {what}{counts}"]
    if row["active_seconds"] is not None and row["elapsed_seconds"] is not None:
        lines.append(
            f"{row['active_seconds']:.0f} s of work, {row['elapsed_seconds']:.0f} s in all"
        )
    if row["changed_fraction"] is not None and row["added_mm3"] is not None:
        lines.append(
            f"changed {row['changed_fraction']:.1%} of what model {str(row['model_sha256'])[:12]} "
            f"proposed: {row['added_mm3']:.0f} mm³ added, {row['removed_mm3']:.0f} mm³ removed, "
            f"{row['added_path_length']} voxels of contour drawn"
        )
    return "\n    ".join(lines)


def _minute(time: str) -> str:
    """An ISO time without its seconds."""
    return time[:16].replace("T", " ")


def _review(
    folder: Path,
    cases: list[str],
    decision: Decision,
    *,
    reviewer: str | None,
    reader: str | None,
    arm: Arm | None,
) -> None:
    """Decide about one label of each case, and say so line by line."""
    site = load_site(folder)
    for case_id in cases:
        record = review_label(
            site,
            case_id=case_id,
            decision=decision,
            reviewer=reviewer or getpass.getuser(),
            reader=reader,
            arm=arm,
        )
        console.out.print(
            f"{case_id}: {record.reader}'s {record.arm} label is {record.status} by "
            f"{record.reviewed_by}, record {record.record_id}."
        )
