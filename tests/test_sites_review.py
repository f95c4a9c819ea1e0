"""Reviews: new records of the same label, by somebody else than its reader."""

from __future__ import annotations

import pytest

from segfed.errors import CaseError, LedgerError
from segfed.sites import Site, add_account, submit_label
from segfed.sites.review import review_label
from tests.sites_samples import NOON, make_label, make_site


@pytest.fixture
def site(tmp_path) -> Site:
    return make_site(tmp_path)


def submit(site: Site, **changes):
    fields = {"case_id": "case0", "label": make_label(), "origin": "manual", "reader": "ann"}
    return submit_label(site, **(fields | changes))


def review(site: Site, decision: str = "approved", **changes):
    fields = {"case_id": "case0", "decision": decision, "reviewer": "rita", "at": NOON}
    return review_label(site, **(fields | changes))


def test_an_approval_is_a_new_record_with_all_that_was_known(site):
    label = submit(site, opened_at=NOON, active_seconds=12.0)

    approved = review(site)

    assert (approved.status, approved.reviewed_by, approved.reviewed_at) == (
        "approved",
        "rita",
        NOON,
    )
    assert (approved.supersedes, approved.reader) == (label.record_id, "ann")
    for field in ("label_sha256", "opened_at", "submitted_at", "active_seconds", "origin"):
        assert getattr(approved, field) == getattr(label, field)
    assert site.ledger().current("case0", "manual") == approved
    site.ledger().verify()


@pytest.mark.parametrize("decision", ["rejected", "reopened"])
def test_a_label_that_does_not_stand_counts_no_more_until_its_reader_submits_again(site, decision):
    submit(site)
    review(site, decision)
    assert site.ledger().current("case0", "manual") is None

    again = submit(site)

    assert site.ledger().current("case0", "manual") == again


def test_nobody_reviews_their_own_label(site):
    submit(site)

    with pytest.raises(LedgerError, match="ann drew the label and cannot review it"):
        review(site, reviewer="ann")


def test_with_accounts_only_a_reviewer_or_admin_reviews(site):
    submit(site)
    for name, role in (("rita", "reviewer"), ("ada", "admin"), ("bob", "annotator")):
        add_account(site.folder, name=name, role=role, password="correct horse battery")

    for name, found in (("bob", "with the role annotator"), ("eve", "without an account")):
        with pytest.raises(LedgerError, match=found):
            review(site, reviewer=name)
    assert review(site, reviewer="rita").status == "approved"
    assert review(site, "rejected", reviewer="ada").status == "rejected"


def test_a_label_whose_origin_contradicts_its_arm_is_never_approved(site):
    site.ledger().assign("ann", "case0", "manual")
    submit(site, origin="ai_corrected")

    with pytest.raises(LedgerError, match="of the manual arm has the origin ai_corrected"):
        review(site)

    assert review(site, "rejected").status == "rejected"


def test_a_label_that_was_flagged_because_nobody_asked_for_it_can_be_approved(site):
    submit(site, status="flagged")

    assert review(site).status == "approved"


def test_whose_label_is_meant_must_be_said_where_there_are_several(site):
    with pytest.raises(CaseError, match=r"0 labels fit.*nobody"):
        review(site)
    submit(site)
    submit(site, reader="bob", origin="ai_accepted")

    with pytest.raises(CaseError, match=r"2 labels fit.*ann \(manual, submitted\), bob"):
        review(site)
    with pytest.raises(CaseError, match="0 labels fit"):
        review(site, reader="ann", arm="assisted")
    assert review(site, arm="assisted").reader == "bob"
    assert review(site, reader="ann").arm == "manual"


def test_the_same_decision_twice_is_refused(site):
    submit(site)
    review(site)

    with pytest.raises(LedgerError, match="record 2 is approved already"):
        review(site)
    review(site, "rejected")
    with pytest.raises(LedgerError, match="record 3 is rejected already"):
        review(site, "reopened")
