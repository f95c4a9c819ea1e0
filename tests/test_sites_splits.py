"""Splits: how many cases are held out, and that a patient stays in one piece."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segfed.sites import assign_splits


def count(n_cases: int, **options: float) -> Counter[str]:
    patients = {f"c{index:03d}": f"p{index:03d}" for index in range(n_cases)}
    return Counter(assign_splits(patients, seed=0, **options).values())


@pytest.mark.parametrize(
    ("n_cases", "expected"),
    [
        # test max(20 %, 8), validation max(10 %, 2), the rest trains
        (100, {"test": 20, "validation": 10, "train": 70}),
        (50, {"test": 10, "validation": 5, "train": 35}),
        (30, {"test": 8, "validation": 3, "train": 19}),
        (20, {"test": 8, "validation": 2, "train": 10}),
        # 20 % of 41 is 8.2: rounded up; 10 % is 4.1
        (41, {"test": 9, "validation": 5, "train": 27}),
        # too few for 8: half
        (9, {"test": 4, "validation": 2, "train": 3}),
        (1, {"train": 1}),
    ],
)
def test_sizes_worked_out_by_hand(n_cases, expected):
    assert count(n_cases) == expected


def test_a_warm_up_share_is_taken_from_what_is_left():
    assert count(100, warmup_fraction=0.3) == {
        "test": 20,
        "validation": 10,
        "warmup": 30,
        "train": 40,
    }


def test_another_seed_gives_another_split_and_the_order_of_cases_plays_no_part():
    patients = {f"c{index}": f"p{index}" for index in range(40)}
    turned = dict(reversed(patients.items()))

    assert assign_splits(patients, seed=3) == assign_splits(turned, seed=3)
    assert assign_splits(patients, seed=3) != assign_splits(patients, seed=4)


def test_a_patient_with_several_cases_counts_with_all_of_them():
    # 60 cases of 20 patients: 20 % are 12 cases, which are 4 patients; 10 % are 6, which are 2
    patients = {f"p{index // 3}-{index % 3}": f"p{index // 3}" for index in range(60)}

    assert Counter(assign_splits(patients, seed=0).values()) == {
        "test": 12,
        "validation": 6,
        "train": 42,
    }


@given(
    patients=st.dictionaries(st.integers(0, 99).map(str), st.sampled_from("abcdefgh"), min_size=1),
    seed=st.integers(0, 9),
)
def test_a_patient_is_never_in_two_splits_and_somebody_always_trains(patients, seed):
    splits = assign_splits(patients, seed=seed, warmup_fraction=0.2)

    assert list(splits) == list(patients)
    assert "train" in splits.values()
    for patient in set(patients.values()):
        assert len({splits[case] for case in patients if patients[case] == patient}) == 1
