"""``segfed audit``: whether a site's records are what was written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console
from segfed.errors import LedgerError
from segfed.sites import load_site

app = typer.Typer(no_args_is_help=True, help="Whether a site's records are what was written.")


@app.callback()
def _group() -> None:
    """Keep ``verify`` a command of its own name while it is the only one."""


@app.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(metavar="SITE", help="The site's folder.")],
    expect: Annotated[
        str | None,
        typer.Option("--expect", help="A record's hash, kept from an earlier check."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recompute the chains of labels, assignments, reading events and outgoing messages."""
    from segfed.agent import AUDIT_FILE, read_audit

    site = load_site(folder)
    ledger = site.ledger()
    ends = ledger.verify()
    records = ledger.records()
    if expect is not None and expect not in {record.hash for record in records}:
        raise LedgerError(
            f"{ledger.path} has no record with the hash {expect}; expected it, because an earlier "
            "check ended with it. The end of the ledger was cut off, or this is another site's: "
            "compare it with a backup."
        )
    messages = read_audit(site.folder / AUDIT_FILE)
    found = {
        "site": site.name,
        "records": len(records),
        "assignments": len(ledger.assignments()),
        "messages": len(messages),
        "ends": asdict(ends) | {"messages": messages[-1].hash if messages else None},
    }
    if as_json:
        console.print_json(found)
        return
    console.out.print(
        f"Site {site.name} is whole: {len(records)} label records, {found['assignments']} "
        f"assignments, {len(messages)} outgoing messages, every label file. The last record has "
        f"the hash {ends.records}; keep it elsewhere, and `--expect` shows later that nothing was "
        "cut off.",
        soft_wrap=True,
        highlight=False,
    )
