"""Which labels of a site count for an arm."""

from __future__ import annotations

import pytest

from segfed.errors import CaseError, LedgerError
from segfed.sites import Site, select_labels, submit_label
from tests.sites_samples import NOON, make_label, make_site


@pytest.fixture
def site(tmp_path) -> Site:
    return make_site(tmp_path)


def submit(site: Site, **changes):
    fields = {
        "case_id": "case0",
        "label": make_label(),
        "origin": "manual",
        "reader": "ann",
        "submitted_at": NOON,
    }
    return submit_label(site, **(fields | changes))


def test_selection_takes_the_current_label_of_the_arm(site):
    submit(site, label=make_label(size=2))
    second = submit(site)
    assisted = submit(site, origin="ai_corrected", label=make_label(size=4))

    (manual_case,) = select_labels(site, split="train", arm="manual")
    (assisted_case,) = select_labels(site, split="train", arm="assisted")

    assert manual_case.record == second
    assert manual_case.label_path.name == f"{second.label_sha256}.nii.gz"
    assert assisted_case.record == assisted


def test_another_arms_label_never_stands_in_and_withheld_ones_are_named(site):
    submit(site, origin="ai_corrected")
    site.ledger().assign("ann", "case0", "manual")
    submit(site, origin="ai_accepted")

    with pytest.raises(CaseError, match=r"1 of 1.*no manual label.*case0.*case0 \(flagged\)"):
        select_labels(site, split="train", arm="manual")
    assert select_labels(site, split="train", arm="manual", required=False) == ()


def test_a_split_without_cases_is_refused_where_labels_are_required(site):
    with pytest.raises(CaseError, match="no case in split 'validation'"):
        select_labels(site, split="validation", arm="manual")
    assert select_labels(site, split="validation", arm="manual", required=False) == ()


def test_an_altered_or_missing_label_is_never_handed_out(site):
    path = site.ledger().label_path(submit(site).label_sha256)

    path.write_bytes(b"altered")
    with pytest.raises(LedgerError, match=r"case0.*has the hash.*record 1"):
        select_labels(site, split="train", arm="manual")
    path.unlink()
    with pytest.raises(LedgerError, match=r"case0.*is missing.*record 1"):
        select_labels(site, split="train", arm="manual")


def arms_of(selected) -> dict[str, str]:
    return {item.case.case_id: item.record.arm for item in selected}


def test_mixed_takes_whichever_label_a_case_has(tmp_path):
    site = make_site(tmp_path, splits=("train", "train"))
    submit(site, case_id="case0")
    submit(site, case_id="case1", origin="ai_corrected")

    mixed = select_labels(site, split="train", arm="mixed")

    assert arms_of(mixed) == {"case0": "manual", "case1": "assisted"}


@pytest.mark.parametrize(("n_cases", "n_manual"), [(4, 2), (5, 3)])
def test_mixed_halves_a_crossover_whatever_the_order_of_labelling(tmp_path, n_cases, n_manual):
    site = make_site(tmp_path, splits=("train",) * n_cases)
    cases = [case.case_id for case in site.cases]
    for case_id in cases:
        submit(site, case_id=case_id)
    for case_id in reversed(cases):
        submit(site, case_id=case_id, origin="ai_corrected")

    before = arms_of(select_labels(site, split="train", arm="mixed"))
    submit(site, case_id="case0", label=make_label(size=2))

    assert sorted(before.values()).count("manual") == n_manual
    assert arms_of(select_labels(site, split="train", arm="mixed")) == before


def test_mixed_refuses_a_case_without_any_label(site):
    with pytest.raises(CaseError, match=r"1 of 1 cases in split 'train' have no label that counts"):
        select_labels(site, split="train", arm="mixed")


def test_a_case_of_the_other_arm_of_a_parallel_study_is_left_out(tmp_path):
    site = make_site(tmp_path, splits=("train", "train"))
    ledger = site.ledger()
    ledger.assign("ann", "case0", "manual")
    ledger.assign("ben", "case1", "assisted")
    submit(site, case_id="case0")
    submit(site, case_id="case1", origin="ai_corrected", reader="ben")

    selected = {
        arm: [item.case.case_id for item in select_labels(site, split="train", arm=arm)]
        for arm in ("manual", "assisted", "mixed")
    }

    assert selected == {
        "manual": ["case0"],
        "assisted": ["case1"],
        "mixed": ["case0", "case1"],
    }


def test_an_assigned_case_that_waits_for_its_label_is_still_refused(tmp_path):
    site = make_site(tmp_path, splits=("train", "train"))
    site.ledger().assign("ann", "case1", "manual")
    submit(site, case_id="case0")

    with pytest.raises(CaseError, match="1 of 2 cases in split 'train' have no manual label"):
        select_labels(site, split="train", arm="manual")


def test_an_arm_to_which_no_case_is_assigned_is_refused(site):
    site.ledger().assign("ben", "case0", "assisted")

    with pytest.raises(CaseError, match="all 1 cases in split 'train' are assigned to another arm"):
        select_labels(site, split="train", arm="manual")
