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

from label_app.reading_log import ReadingEvent
from segfed.sites import Origin

IDLE_SECONDS = 600.0
"""A case that is opened again was left in between; that pause counts as work up to this length."""


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
    stored_label: Callable[[str], NDArray[np.integer[Any]]],
    assigned_at: datetime | None,
    last_submitted_at: datetime | None,
    now: datetime,
) -> Provenance:
    """How a submitted label came about.

    A reader who was shown a proposal for the case has seen it, even if the case was closed and
    opened again or a label was submitted meanwhile: what follows is assisted. Only a new
    assignment begins anew.

    Args:
        label: The submitted label (1, I, J, K), already on its image's grid.
        events: What its reader did with the case, oldest first.
        stored_label: Reads a stored proposal (1, I, J, K) by its hash.
        assigned_at: When the reader's assignment to the case was made, if there is one.
        last_submitted_at: When the reader last submitted a label of the case.
        now: The time of the submission.
    """
    opened_at, active_seconds = _time_spent(events, last_submitted_at, now)
    shown = [
        event
        for event in events
        if event.kind == "proposed" and (assigned_at is None or event.at >= assigned_at)
    ]
    if not shown or shown[-1].proposal_sha256 is None:
        return Provenance("manual", None, None, None, opened_at, active_seconds)
    proposal_sha256 = shown[-1].proposal_sha256
    changed = changed_fraction(label, stored_label(proposal_sha256))
    return Provenance(
        "ai_corrected" if changed else "ai_accepted",
        proposal_sha256,
        shown[-1].model_sha256,
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


def _time_spent(
    events: Sequence[ReadingEvent], last_submitted_at: datetime | None, now: datetime
) -> tuple[datetime | None, float | None]:
    """When the case was opened since the last submission, and the seconds of work since then.

    Both are None for a label that was sent without opening the case: nothing was measured. Drawing
    sends no requests, so that the time before a submission counts in full: an upper bound.
    """
    recent = [e for e in events if last_submitted_at is None or e.at > last_submitted_at]
    opened = [event.at for event in recent if event.kind == "opened"]
    if not opened:
        return None, None
    steps = [(event.at, event.kind) for event in recent if event.at >= opened[0]]
    seconds = 0.0
    for (before, _), (after, kind) in pairwise([*steps, (now, "submitted")]):
        gap = (after - before).total_seconds()
        seconds += min(gap, IDLE_SECONDS) if kind == "opened" else gap
    return opened[0], seconds
