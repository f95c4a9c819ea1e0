"""How a label came about, inferred from what its reader was shown.

Nothing that 3D Slicer sends says whether a label began as a proposal: the server must know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segfed.sites import LabelRecord, Origin, ReadingEvent


@dataclass(frozen=True)
class Provenance:
    """What a label record says about the making of its label."""

    origin: Origin
    proposal_sha256: str | None
    model_sha256: str | None
    changed_fraction: float | None
    opened_at: datetime | None
    active_seconds: float | None


def infer_provenance(
    label: NDArray[np.integer[Any]],
    events: Sequence[ReadingEvent],
    *,
    records: Sequence[LabelRecord],
    assignment: int | None,
    stored_label: Callable[[str], NDArray[np.integer[Any]]],
    idle_seconds: float,
    now: datetime,
) -> Provenance:
    """How a submitted label came about.

    A reader who was shown a proposal for the case has seen it, even if the case was closed and
    opened again, a label was submitted or the assignment was replaced meanwhile: what follows is
    assisted. Only a later period begins anew: once a label was submitted under one assignment,
    and the case was opened again to read it under the next. An earlier one does not.

    Args:
        label: The submitted label (1, I, J, K), already on its image's grid.
        events: What its reader did with the case, oldest first.
        records: The reader's earlier labels of the case, oldest first.
        assignment: The assignment to which the label belongs, if there is one.
        stored_label: Reads a stored proposal (1, I, J, K) by its hash.
        idle_seconds: How much of the time after an opening counts as work at most.
        now: The time of the submission.
    """
    last_submitted_at = records[-1].submitted_at if records else None
    opened_at, active_seconds = _time_spent(events, last_submitted_at, now, idle_seconds)
    proposal_sha256, model_sha256 = _proposal_seen(events, records, assignment)
    if proposal_sha256 is None:
        return Provenance("manual", None, None, None, opened_at, active_seconds)
    changed = changed_fraction(label, stored_label(proposal_sha256))
    return Provenance(
        "ai_corrected" if changed else "ai_accepted",
        proposal_sha256,
        model_sha256,
        changed,
        opened_at,
        active_seconds,
    )


def changed_fraction(label: NDArray[np.integer[Any]], proposal: NDArray[np.integer[Any]]) -> float:
    """Share of the voxels labelled in either that differ; 0 if both are empty.

    Args:
        label: What the reader submitted, any shape.
        proposal: What the reader was shown, same shape.
    """
    union = np.count_nonzero((label != 0) | (proposal != 0))
    return float(np.count_nonzero(label != proposal) / union) if union else 0.0


def _proposal_seen(
    events: Sequence[ReadingEvent], records: Sequence[LabelRecord], assignment: int | None
) -> tuple[str | None, str | None]:
    """The last proposal that the reader saw in this period, and its model.

    Answers to clicks are the reader's work on a proposal: they count only where there was none.
    """
    # Assignments are numbered in the order of their periods. What was seen in a later one is seen
    # by whoever makes the earlier one's label again.
    others = [
        record.submitted_at
        for record in records
        if record.assignment != assignment
        and (record.assignment is None or assignment is None or record.assignment < assignment)
    ]
    openings = [e.at for e in events if e.kind == "opened" and others and e.at > max(others)]
    # Without an opening the reader still has on screen what they had before: all of it counts.
    start = min(openings, default=None)
    in_period = [event for event in events if start is None or event.at >= start]
    for kind in ("proposed", "clicked"):
        for event in reversed(in_period):
            if event.kind == kind:
                return event.proposal_sha256, event.model_sha256
    return None, None


def _time_spent(
    events: Sequence[ReadingEvent],
    last_submitted_at: datetime | None,
    now: datetime,
    idle_seconds: float,
) -> tuple[datetime | None, float | None]:
    """When the case was opened since the last submission, and the seconds of work since then.

    Both are None for a label that was sent without opening the case: nothing was measured. From
    one opening to the next, or to the submission, at most ``idle_seconds`` count. Proposals and
    clicks prolong nothing: drawing by hand sends no requests, and its time would look shorter
    beside theirs. So the limit must be longer than a case takes to draw: the seconds are an
    estimate, beside which the elapsed time from opening to submission is the upper bound.
    """
    recent = [e for e in events if last_submitted_at is None or e.at > last_submitted_at]
    opened = [event.at for event in recent if event.kind == "opened"]
    if not opened:
        return None, None
    gaps = ((after - before).total_seconds() for before, after in pairwise([*opened, now]))
    return opened[0], sum(min(gap, idle_seconds) for gap in gaps)
