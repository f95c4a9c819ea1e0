"""Whether a site's audit log and the server's record of a run hold one history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segfed.agent.audit import AuditEntry
from segfed.errors import LedgerError
from segfed.protocol import RoundRecord, record_heads
from segfed.run_files import read_rounds, read_state


@dataclass(frozen=True)
class SharedHistory:
    """What a site's log and a run's record were found to agree on."""

    manifest_sha256: str
    rounds: int
    """Rounds of the run, as far as this copy of its record goes."""

    heads_at_server: int
    """Rounds for which the server holds a head of the site's log."""

    heads_at_site: int
    """Messages of the site that note a head of the server's record."""


def shared_history(entries: Sequence[AuditEntry], *, site: str, run_folder: Path) -> SharedHistory:
    """Check a site's audit log against the record of a run, in both directions.

    Every head that the server holds must be that of a message which the log has in the same round,
    and every head that the log notes must be that of the record before that round. The heads that
    travel are not signed: a contradiction says that one of the two was changed, and not which. That
    takes what both signed, see `segfed.agent.statements`.

    Args:
        entries: The site's log, whose own chain is whole.
        site: The site's name at the server.
        run_folder: The run's folder, or a copy of its ``state.json`` and ``metrics.jsonl``, which
            may be older than the log.

    Raises:
        ConfigError: If the folder holds no whole record of a run.
        LedgerError: If the two contradict each other; names every round.
    """
    state = read_state(run_folder)
    records = read_rounds(run_folder, state)
    of_run = [entry for entry in entries if entry.manifest_sha256 == state.manifest_sha256]
    problems = [*_lost_at_site(of_run, records, site), *_changed_at_server(of_run, records)]
    if problems:
        raise LedgerError(
            f"The audit log of site {site} and the record in {run_folder} hold different "
            f"histories of study {state.manifest_sha256[:12]}: {'; '.join(problems)}. One of the "
            "two was changed, cut off or begun anew after they exchanged their heads: compare "
            "both with backups."
        )
    return SharedHistory(
        manifest_sha256=state.manifest_sha256,
        rounds=len(records),
        heads_at_server=sum(site in record.audit_heads for record in records),
        heads_at_site=sum(entry.server_head is not None for entry in of_run),
    )


def _lost_at_site(
    entries: Sequence[AuditEntry], records: Sequence[RoundRecord], site: str
) -> Iterator[str]:
    """Heads that the server holds and that the site's log does not have in that round."""
    rounds = {entry.hash: entry.round for entry in entries}
    for record in records:
        head = record.audit_heads.get(site)
        if head is not None and rounds.get(head) != record.round:
            yield f"the log lacks the message of round {record.round} with the hash {head[:12]}"


def _changed_at_server(
    entries: Sequence[AuditEntry], records: Sequence[RoundRecord]
) -> Iterator[str]:
    """Heads that the site noted and that are not those of the record before that round."""
    heads = record_heads(records)
    noted = {(e.round, e.server_head) for e in entries if e.server_head is not None}
    for number, head in sorted(noted):
        if 1 <= number <= len(heads) and heads[number - 1] != head:
            yield f"the record before round {number} had the head {head[:12]} when the site saw it"
