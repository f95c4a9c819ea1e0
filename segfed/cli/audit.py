"""``segfed audit``: what left a site, and whether its records are what was written."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from segfed.cli import console
from segfed.errors import LedgerError
from segfed.files import write_text
from segfed.sites import load_site
from segfed.sites.chain import GENESIS

if TYPE_CHECKING:
    from segfed.agent.statements import Statement

app = typer.Typer(
    no_args_is_help=True,
    help="What left a site, and whether its records are what was written.",
)

_SiteOrRun = Annotated[
    Path, typer.Argument(metavar="SITE|RUN", help="A site's folder, or the server's run.")
]


@app.command("show")
def show(
    folder: Annotated[Path, typer.Argument(metavar="SITE", help="The site's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every message that left for a federation's server: when, to whom, what."""
    from segfed.agent import AUDIT_FILE, read_audit

    site = load_site(folder)
    messages = read_audit(site.folder / AUDIT_FILE)
    if as_json:
        console.print_json([message.model_dump(mode="json") for message in messages])
        return
    table = Table("time (UTC)", "manifest", "round", "message", "bytes", "sha256", "to", box=None)
    for message in messages:
        table.add_row(
            f"{message.time:%Y-%m-%d %H:%M:%S}",
            message.manifest_sha256[:8],
            str(message.round),
            message.kind,
            f"{message.bytes:,}",
            message.sha256[:12],
            message.recipient or "no approved study",
        )
    if messages:
        console.out.print(table, highlight=False)
    total = sum(message.bytes for message in messages)
    console.out.print(
        f"{len(messages)} messages with {total:,} bytes left site {site.name}.", highlight=False
    )


@app.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(metavar="SITE", help="The site's folder.")],
    expect: Annotated[
        list[str] | None,
        typer.Option("--expect", help="A hash kept from an earlier check; may be repeated."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="RUN",
            help="Run folder of the server, or a copy: whether both hold one history.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recompute the chains of labels, assignments, reading events and outgoing messages."""
    from segfed.agent import AUDIT_FILE, read_audit, shared_history

    site = load_site(folder)
    ledger = site.ledger()
    ends = ledger.verify()
    messages = read_audit(site.folder / AUDIT_FILE)
    known = ledger.hashes() | {GENESIS} | {message.hash for message in messages}
    lost = [sha256 for sha256 in expect or () if sha256 not in known]
    if lost:
        raise LedgerError(
            f"Site {site.name} has no row with the hash {' or '.join(lost)}; expected it, because "
            f"an earlier check ended with it. The end of {ledger.path} or of {AUDIT_FILE} was cut "
            "off, or this is another site: compare it with a backup."
        )
    kept = asdict(ends) | {"messages": messages[-1].hash if messages else GENESIS}
    shared = (
        shared_history(messages, site=site.name, run_folder=against)
        if against is not None
        else None
    )
    found = {
        "site": site.name,
        "records": len(ledger.records()),
        "assignments": len(ledger.assignments()),
        "messages": len(messages),
        "ends": kept,
        "shared": asdict(shared) if shared else None,
    }
    if as_json:
        console.print_json(found)
        return
    console.out.print(
        f"Site {site.name} is whole: {found['records']} label records, {found['assignments']} "
        f"assignments, {len(messages)} outgoing messages, every label file. Keep these hashes "
        "elsewhere, and the same command shows later that nothing was cut off:\n"
        + " ".join(f"--expect {sha256}" for sha256 in kept.values() if sha256 != GENESIS),
        soft_wrap=True,
        highlight=False,
    )
    if shared:
        console.out.print(
            f"It shares its history with {against}: {shared.rounds} rounds, in "
            f"{shared.heads_at_server} of which the server took down a hash of this log; "
            f"{shared.heads_at_site} messages of this log hold a hash of the server's record.",
            soft_wrap=True,
            highlight=False,
        )


@app.command("sign")
def sign(
    folder: _SiteOrRun,
    key: Annotated[
        Path,
        typer.Option("--key", help="The site's node.key, or the private key of the study's owner."),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write, for the other side.")],
    study: Annotated[
        str, typer.Option("--study", help="Of a site: the manifest's hash, or its beginning.")
    ] = "",
) -> None:
    """Sign what this side holds of a study's history, for the other side to keep as proof."""
    from segfed.agent.audit import utc_now
    from segfed.agent.statements import sign_statement

    statement = _statement(folder, study, now=utc_now())
    signed = sign_statement(statement, key)
    write_text(out, signed.model_dump_json(indent=2) + "\n")
    console.out.print(
        f"Signed {len(statement.heads)} heads of study {statement.manifest_sha256[:12]}. Send "
        f"{out} to the other side, which checks it with `segfed audit compare`.",
        soft_wrap=True,
        highlight=False,
    )


@app.command("compare")
def compare(
    folder: _SiteOrRun,
    statement: Annotated[Path, typer.Argument(help="What the other side signed.")],
    key: Annotated[
        Path,
        typer.Option("--key", help="Public key of the other side: owner.pub, or the node.pub."),
    ],
) -> None:
    """Check what the other side signed of a study's history against this side's records."""
    from segfed.agent.audit import utc_now
    from segfed.agent.statements import compare_statements, read_statement

    theirs = read_statement(statement, key)
    mine = _statement(folder, theirs.manifest_sha256, now=utc_now())
    n_rounds = compare_statements(mine, theirs)
    console.out.print(
        f"The {theirs.by} signed at {theirs.made_at:%Y-%m-%d %H:%M} UTC the same history of study "
        f"{theirs.manifest_sha256[:12]} that {folder} holds: {n_rounds} rounds. Keep {statement} "
        "and these records: together they prove it to others.",
        soft_wrap=True,
        highlight=False,
    )


def _statement(folder: Path, study: str, *, now: datetime) -> Statement:
    """What a site's folder or a run's holds of a study."""
    from segfed.agent import AUDIT_FILE, read_audit
    from segfed.agent.statements import server_statement, site_statement

    if (folder / "state.json").exists():
        return server_statement(folder, now=now)
    site = load_site(folder)
    entries = read_audit(site.folder / AUDIT_FILE)
    return site_statement(entries, site=site.name, manifest_sha256=study, now=now)
