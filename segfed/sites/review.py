"""What a reviewer makes of a reader's label: approved, rejected, or opened anew."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Literal

from segfed.errors import CaseError, LedgerError
from segfed.protocol import Arm
from segfed.sites.accounts import may_act_as, read_accounts
from segfed.sites.labels import origin_arm
from segfed.sites.records import TO_REDO, LabelRecord, NewLabel
from segfed.sites.site import Site

Decision = Literal["approved", "rejected", "reopened"]


def review_label(
    site: Site,
    *,
    case_id: str,
    decision: Decision,
    reviewer: str,
    reader: str | None = None,
    arm: Arm | None = None,
    at: datetime | None = None,
) -> LabelRecord:
    """Record a decision about the newest label of a case.

    The decision is a new record of the same label, by the same reader, with all that is known of
    its making. A rejected or reopened label no longer counts, and its reader is offered the case
    again.

    Args:
        site: The site, as loaded.
        case_id: The case.
        decision: What becomes of the label.
        reviewer: Who decides; never the label's own reader. At a site with accounts one with the
            role for it; elsewhere whoever can write into the site's folder.
        reader: Whose label; may be left out where only one reader has one.
        arm: Which arm's label; may be left out where there is only one.
        at: The time of the decision; now, unless stated.

    Raises:
        CaseError: If the site has no such case, or not exactly one label is meant.
        LedgerError: If the reviewer may not decide, the label has that status already, its origin
            contradicts its arm and it should be approved, or a newer one came in meanwhile.
    """
    _check_reviewer(site, reviewer)
    record = _label_meant(site, case_id, reader=reader, arm=arm)
    if record.reader == reviewer:
        raise LedgerError(
            f"Case {case_id}: {reviewer} drew the label and cannot review it; expected another "
            "reviewer. Name one with --reviewer."
        )
    if record.status == decision or (decision == "reopened" and record.status in TO_REDO):
        raise LedgerError(
            f"Case {case_id}: record {record.record_id} is {record.status} already; expected a "
            f"label that is not. There is nothing to do until {record.reader} submits again."
        )
    if decision == "approved" and record.arm != origin_arm(record.origin):
        raise LedgerError(
            f"Case {case_id}: record {record.record_id} of the {record.arm} arm has the origin "
            f"{record.origin}; expected one that fits its arm, or the study would compare "
            "something else than it says. Reject the label, and its reader can make it again."
        )
    known = {field.name: getattr(record, field.name) for field in fields(NewLabel)}
    decided = replace(
        NewLabel(**known),
        status=decision,
        reviewed_by=reviewer,
        reviewed_at=at or datetime.now(UTC),
    )
    return site.ledger().append(decided, replacing=record.record_id)


def _check_reviewer(site: Site, name: str) -> None:
    """Refuse somebody whose account may not review."""
    accounts = read_accounts(site.folder)
    account = accounts.get(name)
    if accounts and (account is None or not may_act_as(account.role, "reviewer")):
        found = f"with the role {account.role}" if account else "without an account"
        raise LedgerError(
            f"Found {name!r} {found}; expected one with the role reviewer or admin to review "
            "labels. Name one with --reviewer, or run `segfed label user role`."
        )


def _label_meant(site: Site, case_id: str, *, reader: str | None, arm: Arm | None) -> LabelRecord:
    """The one newest label of a case that fits."""
    site.case(case_id)
    newest = {(r.reader, r.arm): r for r in site.ledger().records(case_id)}
    fitting = [
        record
        for (who, which), record in newest.items()
        if reader in (None, who) and arm in (None, which)
    ]
    if len(fitting) == 1:
        return fitting[0]
    among = fitting or list(newest.values())
    known = ", ".join(f"{r.reader} ({r.arm}, {r.status})" for r in among) or "nobody"
    raise CaseError(
        f"Case {case_id}: {len(fitting)} labels fit; expected one. Labels are from {known}. Say "
        "whose with --reader, and which with --arm."
    )
