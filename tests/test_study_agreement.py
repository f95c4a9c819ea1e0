"""Agreement between readers of the same cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segfed.sites import Site, submit_label
from segfed.study.agreement import Agreement, reader_agreement, summarize_agreement
from segfed.volumes import Volume
from tests.sites_samples import make_grid, make_label, make_site

EMPTY = Volume(np.zeros((1, 7, 6, 5), dtype=np.uint8), make_grid())


@pytest.fixture
def site(tmp_path) -> Site:
    site = make_site(tmp_path, splits=("train", "test", "test"))
    for reader, case_id in (("bob", "case1"), ("ann", "case1"), ("ann", "case2"), ("bob", "case2")):
        site.ledger().assign(reader, case_id, "manual")
    return site


def submit(site: Site, reader: str, case_id: str, label: Volume, **changes) -> None:
    submit_label(site, case_id=case_id, label=label, origin="manual", reader=reader, **changes)


def test_two_readers_labels_of_a_case_are_compared_structure_by_structure(site):
    submit(site, "ann", "case1", make_label(size=3))
    assert reader_agreement(site) == (), "bob has not read it yet"
    submit(site, "bob", "case1", make_label(size=4))
    submit(site, "import", "case1", EMPTY)

    whole, core = reader_agreement(site)

    # Blocks of 27 and 36 voxels with 27 in common: 2 * 27 / 63; the same core of one voxel
    assert (whole.case_id, whole.readers, whole.structure) == ("case1", ("bob", "ann"), "bean")
    assert whole.dice == pytest.approx(54 / 63)
    assert (core.structure, core.dice) == ("core", 1)


def test_the_mean_names_the_pairs_in_which_nobody_drew_the_structure(site):
    submit(site, "ann", "case1", make_label(core_value=1, size=3))
    submit(site, "bob", "case1", make_label(core_value=1, size=3))
    submit(site, "ann", "case2", make_label(core_value=1, size=3))
    submit(site, "bob", "case2", EMPTY)

    pairs = reader_agreement(site)

    # The whole bean: 1 and 0; its core was drawn by nobody.
    assert summarize_agreement(pairs) == (
        Agreement("bean", 0.5, n=2, n_nan=0),
        Agreement("core", None, n=2, n_nan=2),
    )
    assert math.isnan(pairs[1].dice)


def test_a_rejected_label_is_not_compared(site):
    submit(site, "ann", "case1", make_label())
    submit(site, "bob", "case1", make_label(), status="rejected")

    assert reader_agreement(site) == ()
