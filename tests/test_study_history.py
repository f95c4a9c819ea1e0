"""Every version of a case, and what each cost."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from segfed.errors import CaseError
from segfed.sites import Site, store_label, submit_label
from segfed.sites.review import review_label
from segfed.study.history import case_history, version_json
from tests.sites_samples import NOON, make_label, make_site


@pytest.fixture
def site(tmp_path) -> Site:
    return make_site(tmp_path)


def test_every_version_is_there_with_what_it_cost_and_the_one_that_counts(site):
    ledger = site.ledger()
    ledger.assign("ann", "case0", "assisted", at=NOON)
    proposal = store_label(site.folder, make_label(size=3))
    submit_label(
        site,
        case_id="case0",
        label=make_label(size=4),
        origin="ai_corrected",
        reader="ann",
        proposal_sha256=proposal,
        opened_at=NOON,
        submitted_at=NOON + timedelta(minutes=2),
        active_seconds=100.0,
    )
    submit_label(site, case_id="case0", label=make_label(), origin="manual", reader="bob")
    review_label(
        site, case_id="case0", arm="assisted", decision="approved", reviewer="rita", at=NOON
    )

    corrected, drawn, approved = case_history(site, "case0")

    # The block grew by one layer of 3 x 3 voxels of 1.0 x 1.5 x 2.5 mm; its contour in each of
    # the three slices moves by a row of 3 voxels.
    assert corrected.changes.added_mm3 == pytest.approx(9 * 3.75)
    assert (corrected.changes.removed_mm3, corrected.changes.added_path_length) == (0, 9)
    assert (corrected.period, drawn.period, drawn.changes) == (1, None, None)
    assert [v.counts for v in (corrected, drawn, approved)] == [False, True, True]
    for_program = json.loads(json.dumps(version_json(approved), allow_nan=False))
    assert for_program["elapsed_seconds"] == 120
    assert (for_program["active_seconds"], for_program["reviewed_by"]) == (100, "rita")
    assert for_program["reviewed_at"] == "2026-03-01T12:00:00+00:00"
    assert version_json(drawn)["elapsed_seconds"] is None


def test_an_unknown_case_is_refused_and_an_unlabelled_one_has_no_versions(site):
    with pytest.raises(CaseError, match="no case 'case9'"):
        case_history(site, "case9")
    assert case_history(site, "case1") == ()
