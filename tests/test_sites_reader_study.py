"""Who reads what: balanced, random, reproducible, and blind."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segfed.errors import ConfigError, LedgerError
from segfed.sites import ReadingEvent, Site, add_account, submit_label
from segfed.sites.reader_study import assign_study, plan_readings
from tests.sites_samples import NOON, make_label, make_site

READERS = ("ann", "bob", "carol", "dan", "eve")
SPLITS = ("train",) * 5 + ("test",) * 2 + ("validation",)


@pytest.fixture
def site(tmp_path) -> Site:
    return make_site(tmp_path, splits=SPLITS)


def spread(counts: Counter, keys) -> int:
    """How far the counts of these keys are apart."""
    found = [counts[key] for key in keys]
    return max(found) - min(found)


@settings(max_examples=60, deadline=None)
@given(
    n_readers=st.integers(2, 5),
    n_compared=st.integers(0, 23),
    n_by_hand=st.integers(0, 7),
    n_twice=st.integers(0, 7),
    design=st.sampled_from(["parallel", "crossover"]),
    seed=st.integers(0, 100),
)
def test_every_study_is_balanced(n_readers, n_compared, n_by_hand, n_twice, design, seed):
    readers = READERS[:n_readers]
    compared = [f"train{i}" for i in range(n_compared)]
    by_hand = [f"hand{i}" for i in range(n_by_hand)]
    twice = [f"twice{i}" for i in range(n_twice)]

    plan = plan_readings(
        readers=readers,
        compared=compared,
        by_hand=by_hand,
        twice_by_hand=twice,
        design=design,
        washout_days=28,
        rng=np.random.default_rng(seed),
    )

    first = [a for a in plan if a.period == 1]
    cells = Counter((a.reader, a.arm) for a in first if a.case_id in compared)
    arms = Counter(a.arm for a in first if a.case_id in compared)
    assert spread(cells, [(r, arm) for r in readers for arm in ("manual", "assisted")]) <= 1
    assert spread(arms, ("manual", "assisted")) <= 1
    assert spread(Counter(a.reader for a in first), readers) <= 1
    per_case = Counter(a.case_id for a in first)
    assert per_case == Counter(compared + by_hand + twice + twice)
    assert len({(a.reader, a.case_id) for a in first}) == len(first), "two different readers"
    assert {a.arm for a in plan if a.case_id not in compared} <= {"manual"}

    second = {(a.reader, a.case_id): a.arm for a in plan if a.period == 2}
    swapped = {"manual": "assisted", "assisted": "manual"}
    expected = {(a.reader, a.case_id): swapped[a.arm] for a in first if a.case_id in compared}
    assert second == (expected if design == "crossover" else {})
    assert [a.period for a in plan] == sorted(a.period for a in plan)


def test_a_seed_gives_one_study_and_another_seed_another(tmp_path):
    studies = []
    for number, seed in enumerate((7, 7, 8)):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = assign_study(
            make_site(folder, splits=("train",) * 8),
            readers=["ann", "bob"],
            design="parallel",
            seed=seed,
        )
        studies.append([(a.reader, a.case_id, a.arm, a.assignment_id) for a in made])

    assert studies[0] == studies[1] != studies[2]


def test_only_training_cases_are_compared_and_others_are_drawn_by_hand(site):
    labelled = site.split("validation")[0].case_id
    submit_label(site, case_id=labelled, label=make_label(), origin="manual", reader="import")

    made = assign_study(
        site,
        readers=["ann", "bob"],
        design="crossover",
        seed=1,
        washout_days=14,
        double_read_test=True,
    )

    train = {case.case_id for case in site.split("train")}
    assert Counter(a.case_id for a in made) == Counter(
        {case.case_id: 2 for case in site.cases if case.case_id != labelled}
    )
    for assignment in made:
        is_second = assignment.period == 2
        assert assignment.arm == "manual" or assignment.case_id in train
        assert assignment.washout_days == (14 if is_second else 0)
        assert assignment.design == "crossover, seed 1"
    tests = [(a.case_id, a.reader) for a in made if a.case_id not in train]
    assert len(set(tests)) == 4
    assert site.ledger().assignments() == made


def test_assigning_again_is_refused_and_adding_leaves_what_is_there(site):
    assign_study(site, readers=["ann"], design="parallel", seed=1)
    before = site.ledger().assignments()

    with pytest.raises(LedgerError, match=r"north has 8 assignments; expected none.*--add"):
        assign_study(site, readers=["ann", "bob"], design="parallel", seed=2)
    with pytest.raises(ConfigError, match="no case to assign: 8 of 8"):
        assign_study(site, readers=["ann"], design="parallel", seed=2, add=True)
    assert site.ledger().assignments() == before


def test_only_those_who_can_log_in_are_assigned(site):
    add_account(site.folder, name="ann", role="annotator", password="correct horse battery")

    with pytest.raises(ConfigError, match=r"readers An, bob without an account.*some of ann"):
        assign_study(site, readers=["An", "ann", "bob"], design="parallel", seed=1)

    assert site.ledger().assignments() == ()
    assert assign_study(site, readers=["ann"], design="parallel", seed=1)


def test_cases_that_a_reader_knows_with_a_proposal_are_refused(site):
    seen, labelled, manual = (case.case_id for case in site.split("train")[:3])
    site.ledger().note("ann", seen, ReadingEvent(NOON, "opened"))
    site.ledger().note("ann", seen, ReadingEvent(NOON, "proposed", "a" * 64, "b" * 64))
    site.ledger().note("ann", manual, ReadingEvent(NOON, "opened"))
    submit_label(site, case_id=labelled, label=make_label(), origin="ai_accepted", reader="ann")
    submit_label(site, case_id=manual, label=make_label(), origin="manual", reader="ann")

    with pytest.raises(
        ConfigError, match=rf"proposal before: {seen} \(ann\), {labelled} \(ann\); expected"
    ):
        assign_study(site, readers=["ann", "bob"], design="parallel", seed=1)

    assert site.ledger().assignments() == ()
    assert assign_study(site, readers=["bob", "carol"], design="parallel", seed=1)


def test_adding_assigns_what_nobody_has(site):
    earlier = site.ledger().assign("ann", "case0", "manual", at=NOON)

    made = assign_study(site, readers=["bob"], design="parallel", seed=2, add=True)

    assert {a.case_id for a in made} == {case.case_id for case in site.cases} - {"case0"}
    assert site.ledger().assignments()[0] == earlier


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"readers": []}, r"readers \[\]; expected 1 or more"),
        ({"readers": ["ann", "ann"]}, "different names"),
        ({"readers": ["ann"], "double_read_test": True}, "expected 2 or more.*read by two"),
        ({"washout_days": -1.0}, "washout of -1.0 days"),
    ],
)
def test_what_makes_no_study_is_refused(site, changes, message):
    with pytest.raises(ConfigError, match=message):
        assign_study(site, **({"readers": ["ann"], "design": "crossover", "seed": 1} | changes))

    assert site.ledger().assignments() == ()
