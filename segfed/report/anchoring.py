"""Whether readers repeated the errors of the proposals that they were shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from segfed.evaluation import ProposalError, anchoring_gap
from segfed.report.text import joined, number
from segfed.report.values import as_json
from segfed.study.records import AnchoringRow

SMALL_MM3 = 1000.0
"""Errors below this volume, of a ball of 12 mm across, are also counted by themselves."""


def summarize_anchoring(
    rows: Sequence[AnchoringRow], *, tolerance_mm: float
) -> dict[str, Any] | None:
    """How often each arm's labels repeat a proposal's clear errors, and the difference.

    Args:
        rows: Of ``anchoring.csv``.
        tolerance_mm: What was called a clear error.

    Returns:
        The counts, the difference with its interval and a verdict in words; None without rows.
    """
    if not rows:
        return None
    arms = {arm: [row for row in rows if row.arm == arm] for arm in ("manual", "assisted")}
    gap = anchoring_gap(_case_shares(arms["manual"]), _case_shares(arms["assisted"]))
    is_found = None if gap.ci_low is None else gap.ci_low > 0
    return {
        "tolerance_mm": tolerance_mm,
        "small_mm3": SMALL_MM3,
        "arms": {arm: _counts(found) for arm, found in arms.items()},
        "difference": as_json(gap),
        "is_found": is_found,
        "sentence": _sentence(as_json(gap), is_found=is_found),
    }


def _counts(rows: Sequence[AnchoringRow]) -> dict[str, Any]:
    """Labels of one arm by whether they can be judged, errors by whether they are repeated."""
    labels: dict[tuple[str, str, str], AnchoringRow] = {
        (row.site, row.case, row.reader): row for row in rows
    }
    referenced = [row for row in labels.values() if row.reference]
    judged = [row for row in referenced if row.model_sha256]
    errors = _errors(rows)
    return {
        "n_labels": len(labels),
        "n_without_reference": len(labels) - len(referenced),
        "n_without_proposal": len(referenced) - len(judged),
        "n_without_error": sum(row.volume_mm3 is None for row in judged),
        "references": sorted({row.reference for row in judged}),
        "all": _repeated(errors),
        "small": _repeated([error for error in errors if error.volume_mm3 < SMALL_MM3]),
        "large": _repeated([error for error in errors if error.volume_mm3 >= SMALL_MM3]),
    }


def _repeated(errors: Sequence[ProposalError]) -> dict[str, Any]:
    """How many of some errors a label repeats."""
    n_repeated = sum(error.is_repeated for error in errors)
    return {
        "n_errors": len(errors),
        "n_repeated": n_repeated,
        "share": n_repeated / len(errors) if errors else None,
    }


def _errors(rows: Sequence[AnchoringRow]) -> list[ProposalError]:
    """The errors among some rows."""
    return [
        ProposalError(row.volume_mm3, row.agreement)
        for row in rows
        if row.volume_mm3 is not None and row.agreement is not None
    ]


def _case_shares(rows: Sequence[AnchoringRow]) -> dict[str, dict[str, float]]:
    """Share of each case's errors that its label repeats; NaN where there is none to repeat."""
    by_case: dict[tuple[str, str], list[AnchoringRow]] = {}
    for row in rows:
        by_case.setdefault((row.site, row.case), []).append(row)
    shares: dict[str, dict[str, float]] = {}
    for (site, case), found in by_case.items():
        share = _repeated(_errors(found))["share"]
        shares.setdefault(site, {})[case] = math.nan if share is None else share
    return shares


def _sentence(gap: dict[str, Any], *, is_found: bool | None) -> str:
    """The verdict in words."""
    if gap["mean"] is None:
        return f"Anchoring was not measured: {gap['reason']}."
    points = number(100 * gap["mean"], 1, signed=True)
    if is_found is None:
        return (
            f"Whether readers repeat a proposal's errors is not settled: {points} percentage "
            f"points more often where they saw it, without an interval ({gap['reason']})."
        )
    low, high = (number(100 * gap[end], 1, signed=True) for end in ("ci_low", "ci_high"))
    figures = f"{points} percentage points ({low} to {high})"
    if is_found:
        return (
            "Readers who saw the proposal repeated its clear errors more often than those to whom "
            f"it was hidden: {figures}."
        )
    return (
        "No anchoring was found: readers who saw the proposal did not clearly repeat its errors "
        f"more often than those to whom it was hidden, {figures}."
    )


def anchoring_warning(found: dict[str, Any] | None) -> list[str]:
    """What the comparison of label arms must be read with."""
    if not found:
        return []
    if found["is_found"]:
        return [f"{found['sentence']} Assisted labels carry errors of the proposing model."]
    missing = [arm for arm, of in found["arms"].items() if of["n_without_reference"]]
    if found["difference"]["mean"] is None and missing:
        return [
            f"{found['sentence']} No label by another hand tells what is wrong in cases of the "
            f"{joined(missing)} arm: let a second reader draw a share of the training cases."
        ]
    return []
