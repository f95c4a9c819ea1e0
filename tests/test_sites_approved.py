"""Which labels a site trains its own model on."""

from __future__ import annotations

import pytest

from segfed.errors import CaseError, LabelError, LedgerError
from segfed.sites import Site, approved_labels, store_label, submit_label
from segfed.volumes import write_image
from tests.sites_samples import make_image, make_label, make_site, new_label

BOTH = ("manual", "assisted")


@pytest.fixture
def site(tmp_path) -> Site:
    return make_site(tmp_path, splits=("train", "train", "test"))


def submit(site, case_id="case0", *, status="approved", size=3, arm="manual", reader="ann"):
    return submit_label(
        site,
        case_id=case_id,
        label=make_label(size=size),
        origin="manual" if arm == "manual" else "ai_corrected",
        reader=reader,
        status=status,
    )


def chosen(site, **wishes):
    options = {"split": "train", "arms": BOTH} | wishes
    return [(item.case.case_id, item.record) for item in approved_labels(site, **options)]


def test_only_approved_labels_count_unless_asked_otherwise(site):
    approved, submitted = submit(site), submit(site, "case1", status="submitted")
    submit(site, "case2")

    assert chosen(site) == [("case0", approved)]
    assert chosen(site, statuses=("approved", "submitted")) == [
        ("case0", approved),
        ("case1", submitted),
    ]


def test_the_newest_label_of_the_wanted_arms_is_taken(site):
    by_hand = submit(site)
    corrected = submit(site, arm="assisted", size=4)

    assert chosen(site) == [("case0", corrected)]
    assert chosen(site, arms=("manual",)) == [("case0", by_hand)]


def test_a_label_that_its_reader_replaced_is_not_trained_on(site):
    submit(site)
    submit(site, status="submitted", size=4)

    assert chosen(site) == []


def test_another_readers_unreviewed_label_does_not_hide_an_approved_one(site):
    approved = submit(site)
    submit(site, status="submitted", size=4, reader="bob")

    assert chosen(site) == [("case0", approved)]


def test_an_altered_image_is_refused(site):
    submit(site)
    write_image(make_image(9), site.case("case0").channels["t1"])

    with pytest.raises(CaseError, match="case0: the image has the hash"):
        chosen(site)


def test_an_altered_label_is_refused(site):
    record = submit(site)
    site.ledger().label_path(record.label_sha256).write_bytes(b"x")

    with pytest.raises(LedgerError, match=r"case0: .* has the hash"):
        chosen(site)


def test_a_label_with_an_unknown_value_is_refused(site):
    sha256 = store_label(site.folder, make_label(7))
    site.ledger().append(new_label(sha256, status="approved"))

    with pytest.raises(LabelError, match="case0"):
        chosen(site)
