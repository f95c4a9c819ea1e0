"""What a reader is offered, and what of a case they may see, over the periods of a study."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from label_app.submission import submit_upload
from label_app.worklist import offered_cases, visible_arm, visible_record
from segfed.sites import NewAssignment, ReadingEvent, submit_label
from segfed.sites.review import review_label
from segfed.volumes import write_label
from tests.sites_samples import NOON, make_label, make_site

DAY = timedelta(days=1)


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path, splits=("train", "train"))


@pytest.fixture
def crossover(site):
    """Ann reads case1 and then case0 assisted, and four weeks after each by hand."""
    site.ledger().assign_all(
        [
            NewAssignment("ann", "case1", "assisted"),
            NewAssignment("ann", "case0", "assisted"),
            NewAssignment("ann", "case0", "manual", period=2, washout_days=28),
            NewAssignment("ann", "case1", "manual", period=2, washout_days=28),
        ],
        at=NOON - DAY,
    )
    return site


def submit(site, case_id, at, *, origin="manual", **changes):
    return submit_label(
        site,
        case_id=case_id,
        label=make_label(),
        origin=origin,
        reader="ann",
        submitted_at=at,
        **changes,
    )


def test_the_second_period_begins_a_washout_after_the_first_label(crossover):
    site = crossover
    assert offered_cases(site, "ann", now=NOON) == {"case1": False, "case0": False}

    submit(site, "case1", NOON, origin="ai_accepted")
    submit(site, "case1", NOON + DAY, origin="ai_corrected")

    assert offered_cases(site, "ann", now=NOON + 28 * DAY) == {"case0": False, "case1": True}
    # Four weeks after the better label; in the second period's own order
    assert offered_cases(site, "ann", now=NOON + 29 * DAY) == {"case0": False, "case1": False}
    second = submit(site, "case1", NOON + 29 * DAY)
    assert (second.assignment, second.arm, second.status) == (4, "manual", "submitted")


def test_a_label_during_the_washout_replaces_the_first_periods(crossover):
    submit(crossover, "case1", NOON, origin="ai_accepted")

    again = submit(crossover, "case1", NOON + DAY, origin="ai_corrected")

    assert (again.assignment, again.arm, again.supersedes) == (1, "assisted", 1)


def test_from_the_first_submission_on_a_case_to_draw_later_shows_no_proposal(crossover):
    def arm(at):
        return visible_arm(crossover, "ann", "case1", now=at)

    assert arm(NOON) == "assisted"
    submit(crossover, "case1", NOON, origin="ai_accepted")
    assert arm(NOON + DAY) == "manual"
    assert arm(NOON + 28 * DAY) == "manual"


def test_the_first_periods_label_is_hidden_from_its_submission_on(crossover):
    submit(crossover, "case1", NOON, origin="ai_accepted")

    def seen(at):
        return visible_record(crossover, "ann", "case1", now=at)

    assert seen(NOON + DAY) is None, "a look at it would undo the washout"
    assert seen(NOON + 28 * DAY) is None
    second = submit(crossover, "case1", NOON + 29 * DAY)
    assert seen(NOON + 30 * DAY) == second


@pytest.mark.parametrize("status", ["rejected", "reopened"])
def test_a_first_period_that_is_made_again_comes_before_the_second(crossover, status):
    again = submit(crossover, "case1", NOON, origin="ai_accepted", status=status)

    later = NOON + 99 * DAY
    assert visible_arm(crossover, "ann", "case1", now=later) == "assisted"
    assert visible_record(crossover, "ann", "case1", now=later) == again
    assert submit(crossover, "case1", later, origin="ai_corrected").assignment == 1
    assert visible_arm(crossover, "ann", "case1", now=later + DAY) == "manual", "and a new washout"
    assert offered_cases(crossover, "ann", now=later + DAY)["case1"]


def test_a_first_period_that_is_rejected_during_the_second_spoils_neither(crossover, tmp_path):
    """Washout and opening lie in the past, the rejection lies after the opening."""
    submit(crossover, "case1", NOON, origin="ai_accepted")
    opened_at = NOON + 29 * DAY
    crossover.ledger().note("ann", "case1", ReadingEvent(opened_at, "opened"))
    review_label(
        crossover,
        case_id="case1",
        decision="rejected",
        reviewer="rita",
        reader="ann",
        at=opened_at + DAY / 24,
    )
    now = opened_at + DAY / 12

    assert visible_arm(crossover, "ann", "case1", now=now) == "manual"
    assert visible_record(crossover, "ann", "case1", now=now) is None
    write_label(make_label(), tmp_path / "label.nii.gz")
    drawn = submit_upload(
        crossover,
        crossover.case("case1"),
        upload=tmp_path / "label.nii.gz",
        label_info={},
        reader="ann",
    )
    assert (drawn.assignment, drawn.status) == (1, "flagged")

    crossover.ledger().note("ann", "case1", ReadingEvent(drawn.submitted_at, "opened"))
    review_label(crossover, case_id="case1", decision="reopened", reviewer="rita", reader="ann")
    crossover.ledger().note("ann", "case1", ReadingEvent(datetime.now(UTC), "opened"))
    assert visible_arm(crossover, "ann", "case1", now=datetime.now(UTC)) == "assisted"


def test_what_is_nobodys_or_anothers_shows_no_proposal_once_there_are_assignments(site):
    assert visible_arm(site, "ann", "case0", now=NOON) is None

    site.ledger().assign("bob", "case1", "assisted", at=NOON)

    assert visible_arm(site, "ann", "case1", now=NOON) == "manual"
    assert visible_arm(site, "bob", "case0", now=NOON) == "manual"
    assert offered_cases(site, "ann", now=NOON) == {}


@pytest.mark.parametrize("assigned", [True, False])
@pytest.mark.parametrize("status", ["rejected", "reopened"])
def test_a_label_that_does_not_stand_brings_its_case_back(site, assigned, status):
    if assigned:
        site.ledger().assign("ann", "case0", "manual", at=NOON)
    submit(site, "case0", NOON)
    assert offered_cases(site, "ann", now=NOON)["case0"]

    submit(site, "case0", NOON, status=status)

    assert not offered_cases(site, "ann", now=NOON)["case0"]
