"""What the label server concludes from what a reader was shown."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from label_app.origin import changed_fraction, infer_provenance
from label_app.reading_log import ReadingEvent
from tests.sites_samples import NOON

PROPOSAL = np.array([0, 1, 1, 2, 0, 0])


def after(minutes: float):
    return NOON + timedelta(minutes=minutes)


def opened(minutes: float) -> ReadingEvent:
    return ReadingEvent(after(minutes), "opened")


def proposed(minutes: float, sha256: str = "proposal") -> ReadingEvent:
    return ReadingEvent(after(minutes), "proposed", sha256, "model")


def infer(label, events, *, assigned_at=None, last_submitted_at=None, at=60.0):
    return infer_provenance(
        np.asarray(label),
        events,
        stored_label={"proposal": PROPOSAL, "older": np.zeros(6, dtype=int)}.__getitem__,
        assigned_at=assigned_at,
        last_submitted_at=last_submitted_at,
        now=after(at),
    )


def test_a_label_without_a_proposal_is_manual():
    made = infer(PROPOSAL, [opened(0)])

    assert (made.origin, made.proposal_sha256, made.changed_fraction) == ("manual", None, None)


def test_a_proposal_that_comes_back_unchanged_was_accepted():
    made = infer(PROPOSAL, [opened(0), proposed(1)])

    assert (made.origin, made.changed_fraction) == ("ai_accepted", 0.0)
    assert (made.proposal_sha256, made.model_sha256) == ("proposal", "model")


def test_a_changed_proposal_was_corrected():
    # Voxels 1-4 are labelled in one or the other; 2 changed its value, 4 was added: 2 of 4.
    made = infer([0, 1, 2, 2, 1, 0], [opened(0), proposed(1)])

    assert (made.origin, made.changed_fraction) == ("ai_corrected", 0.5)


def test_the_last_proposal_counts():
    made = infer(PROPOSAL, [opened(0), proposed(1, "older"), proposed(2)])

    assert made.origin == "ai_accepted"


def test_a_proposal_stays_seen_when_the_case_is_opened_or_submitted_again():
    seen = [opened(0), proposed(1), opened(30)]

    assert infer(PROPOSAL, seen).origin == "ai_accepted"
    assert infer(PROPOSAL, seen, last_submitted_at=after(20)).origin == "ai_accepted"


def test_a_new_assignment_begins_anew():
    made = infer(PROPOSAL, [opened(0), proposed(1), opened(40)], assigned_at=after(30))

    assert made.origin == "manual"


def test_drawing_counts_in_full_because_it_sends_no_requests():
    # From 0 to the proposal at 2, and from there to the submission at 60
    made = infer(PROPOSAL, [opened(0), proposed(2)])

    assert made.opened_at == NOON
    assert made.active_seconds == pytest.approx(60 * 60)


def test_a_case_that_was_left_counts_ten_minutes_until_it_is_opened_again():
    # From 0 until it is opened again at 30: a pause, 600 s; from there to 60 in full
    made = infer(PROPOSAL, [opened(0), opened(30)])

    assert made.active_seconds == pytest.approx(600 + 30 * 60)


def test_time_before_the_last_submission_is_not_counted_twice():
    made = infer(PROPOSAL, [opened(0), opened(55)], last_submitted_at=after(50))

    assert made.opened_at == after(55)
    assert made.active_seconds == pytest.approx(5 * 60)


def test_a_label_of_a_case_that_was_not_opened_has_no_time():
    made = infer(PROPOSAL, [opened(0)], last_submitted_at=after(50))

    assert (made.opened_at, made.active_seconds) == (None, None)


def test_two_empty_labels_do_not_differ():
    assert changed_fraction(np.zeros(5), np.zeros(5)) == 0.0
