"""What the label server concludes from what a reader was shown."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from label_app.origin import changed_fraction, infer_provenance
from segfed.sites import LabelRecord, ReadingEvent
from tests.sites_samples import NOON, new_label

PROPOSAL = np.array([0, 1, 1, 2, 0, 0])


def after(minutes: float):
    return NOON + timedelta(minutes=minutes)


def opened(minutes: float) -> ReadingEvent:
    return ReadingEvent(after(minutes), "opened")


def proposed(minutes: float, sha256: str = "proposal") -> ReadingEvent:
    return ReadingEvent(after(minutes), "proposed", sha256, "model")


def clicked(minutes: float, sha256: str) -> ReadingEvent:
    return ReadingEvent(after(minutes), "clicked", sha256, "click model")


def submitted(minutes: float, *, assignment: int | None = None, proposal=None) -> LabelRecord:
    """A label that the reader sent earlier."""
    new = new_label(
        "label",
        submitted_at=after(minutes),
        assignment=assignment,
        proposal_sha256=proposal,
        model_sha256=proposal and "model",
    )
    return LabelRecord(**vars(new), record_id=1, supersedes=None, previous_hash="", hash="")


def infer(label, events, *, records=(), assignment=None, at=60.0, idle_minutes=30.0):
    return infer_provenance(
        np.asarray(label),
        events,
        records=records,
        assignment=assignment,
        stored_label={"proposal": PROPOSAL, "older": np.zeros(6, dtype=int)}.__getitem__,
        idle_seconds=idle_minutes * 60,
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


def test_clicks_change_a_proposal_and_replace_none():
    answered = np.array([0, 1, 1, 1, 0, 0])

    made = infer(answered, [opened(0), proposed(1), clicked(2, "answer")])

    assert (made.origin, made.changed_fraction) == ("ai_corrected", pytest.approx(1 / 3))
    assert (made.proposal_sha256, made.model_sha256) == ("proposal", "model")


def test_without_a_proposal_the_last_answer_to_clicks_counts():
    made = infer(PROPOSAL, [opened(0), clicked(1, "older"), clicked(2, "proposal")])

    assert (made.origin, made.model_sha256) == ("ai_accepted", "click model")


def test_a_proposal_stays_seen_when_the_case_is_opened_or_submitted_again():
    seen = [opened(0), proposed(1), opened(30)]

    assert infer(PROPOSAL, seen).origin == "ai_accepted"
    assert infer(PROPOSAL, seen, records=[submitted(20)]).origin == "ai_accepted"


def test_a_second_period_begins_anew_when_its_reader_opens_the_case():
    first = submitted(20, assignment=1, proposal="proposal")
    events = [opened(0), proposed(1), opened(40)]

    assert infer(PROPOSAL, events, records=[first], assignment=2).origin == "manual"
    again = infer(PROPOSAL, [*events, proposed(41)], records=[first], assignment=2)
    assert again.origin == "ai_accepted"


def test_another_assignment_in_the_middle_of_a_case_hides_no_proposal():
    # Nothing was submitted under the assisted assignment that assignment 2 replaced.
    assert infer(PROPOSAL, [opened(0), proposed(1)], assignment=2).origin == "ai_accepted"
    assert infer(PROPOSAL, [opened(0), proposed(1), opened(9)], assignment=2).origin != "manual"
    # The reader goes on drawing on what they submitted under assignment 1.
    first = submitted(20, assignment=1, proposal="proposal")
    made = infer(PROPOSAL, [opened(0), proposed(1)], records=[first], assignment=2)
    assert made.origin == "ai_accepted"


def test_a_period_that_is_opened_anew_remembers_its_proposal():
    records = [submitted(5, assignment=1, proposal="proposal"), submitted(20, assignment=2)]

    made = infer(
        PROPOSAL, [opened(0), proposed(1), opened(10), opened(40)], records=records, assignment=1
    )

    assert (made.origin, made.model_sha256) == ("ai_accepted", "model")


def test_a_manual_period_that_is_made_again_after_the_assisted_one_is_assisted():
    """Whether the later opening follows the proposal or not: its reader has seen it."""
    records = [submitted(20, assignment=1), submitted(50, assignment=2, proposal="proposal")]
    events = [opened(0), opened(40), proposed(41)]

    assert infer(PROPOSAL, [*events, opened(55)], records=records, assignment=1).origin != "manual"
    assert infer(PROPOSAL, events, records=records, assignment=1).origin != "manual"


def test_a_second_period_that_is_made_again_hides_only_what_came_before_the_first_was():
    """The assisted first label was made again, too, and a washout lies behind it."""
    records = [
        submitted(5, assignment=1, proposal="proposal"),
        submitted(20, assignment=2),
        submitted(40, assignment=1, proposal="proposal"),
    ]
    events = [opened(0), proposed(1), opened(10), opened(30), proposed(31), opened(50)]

    assert infer(PROPOSAL, events, records=records, assignment=2).origin == "manual"


@pytest.mark.parametrize(("at", "minutes"), [(25.0, 25), (60.0, 30)])
def test_the_same_time_counts_with_and_without_help(at, minutes):
    by_hand = infer(PROPOSAL, [opened(0)], at=at)
    helped = infer(
        PROPOSAL, [opened(0), proposed(2), *(clicked(m, "older") for m in (8, 14, 20))], at=at
    )

    assert by_hand.opened_at == helped.opened_at == NOON
    assert by_hand.active_seconds == helped.active_seconds == pytest.approx(minutes * 60)


def test_a_longer_pause_counts_as_the_limit_before_a_submission_too():
    # From 0 to 40: 30 minutes; from there to 100: 30 minutes.
    made = infer(PROPOSAL, [opened(0), opened(40)], at=100.0)
    assert made.active_seconds == pytest.approx(60 * 60)

    # With 10 minutes: two pauses of 10
    made = infer(PROPOSAL, [opened(0), opened(40)], at=100.0, idle_minutes=10.0)
    assert made.active_seconds == pytest.approx(20 * 60)


def test_time_before_the_last_submission_is_not_counted_twice():
    made = infer(PROPOSAL, [opened(0), opened(55)], records=[submitted(50)])

    assert made.opened_at == after(55)
    assert made.active_seconds == pytest.approx(5 * 60)


def test_a_label_of_a_case_that_was_not_opened_has_no_time():
    made = infer(PROPOSAL, [opened(0)], records=[submitted(50)])

    assert (made.opened_at, made.active_seconds) == (None, None)


def test_two_empty_labels_do_not_differ():
    assert changed_fraction(np.zeros(5), np.zeros(5)) == 0.0
