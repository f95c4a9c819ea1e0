"""Which case goes where."""

from __future__ import annotations

from collections import Counter

import pytest

from segfed.errors import CaseError, ConfigError
from segfed.sites.imports.placement import place_cases, read_rows

PATIENTS = {f"c{index:02d}": f"p{index:02d}" for index in range(60)}


def write_table(folder, text):
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_sizes_divide_the_cases_and_none_takes_what_is_left():
    placed = place_cases(PATIENTS, sites={"a": 30, "b": 20, "rest": None}, seed=1)

    assert Counter(p.site for p in placed) == {"a": 30, "b": 20, "rest": 10}
    assert len({p.case_id for p in placed}) == 60
    # max(20 % of 30, 8) and max(20 % of 20, 8); of 10 only half
    tests = Counter(p.site for p in placed if p.split == "test")
    assert tests == {"a": 8, "b": 8, "rest": 5}


def test_the_same_seed_places_alike_and_another_does_not():
    once, again, other = (place_cases(PATIENTS, sites={"a": 30}, seed=s) for s in (1, 1, 2))

    assert once == again
    assert {p.case_id for p in once} != {p.case_id for p in other}


def test_a_patients_cases_stay_together():
    patients = {f"p{index // 3}-{index % 3}": f"p{index // 3}" for index in range(60)}

    placed = place_cases(patients, sites={"a": 20, "b": 10, "c": None})

    for patient in set(patients.values()):
        assert len({(p.site, p.split) for p in placed if p.patient_id == patient}) == 1


def test_a_table_decides_and_only_its_cases_are_placed(tmp_path):
    rows = read_rows(
        write_table(tmp_path, "case_id,site,split,patient_id\nc01,x,test,q\nc02,y,train,r\n")
    )

    placed = place_cases(PATIENTS, rows=rows)

    assert [(p.case_id, p.patient_id, p.site, p.split) for p in placed] == [
        ("c01", "q", "x", "test"),
        ("c02", "r", "y", "train"),
    ]


def test_the_rule_decides_what_the_table_leaves_open(tmp_path):
    lines = "".join(f"c{index:02d},x\n" for index in range(20))
    by_site = read_rows(write_table(tmp_path, f"case_id,site\n{lines}"))
    assert Counter(p.split for p in place_cases(PATIENTS, rows=by_site)) == {
        "test": 8,
        "validation": 2,
        "train": 10,
    }

    by_split = read_rows(write_table(tmp_path, "case_id,split\nc01,test\nc02,train\n"))
    placed = place_cases(PATIENTS, rows=by_split, sites={"x": None})
    assert {(p.case_id, p.site, p.split) for p in placed} == {
        ("c01", "x", "test"),
        ("c02", "x", "train"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case_id,spilt\nc01,test\n", "unknown column 'spilt', did you mean 'split'"),
        ("case,site\nc01,a\n", "expected a case_id"),
        ("case_id,site\n", "0 lines"),
        ("case_id,site\nc01,a\nc01,b\n", "cases c01 stand in more than one line"),
        ("case_id,site\nc01\n", "more or fewer values"),
        ("case_id,site\nc01,a,b\n", "more or fewer values"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read_rows(write_table(tmp_path, text))


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No readable table at"):
        read_rows(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "sites", "error", "message"),
    [
        ("case_id,site\nzz,a\n", None, CaseError, "1 case.s. that are not there: zz"),
        ("case_id,site,split\nc01,a,tset\n", None, ConfigError, "unknown splits.*tset"),
        ("case_id,site\nc01,a\n", {"b": 1}, ConfigError, "Both the table's column 'site'"),
        ("case_id,split\nc01,test\n", None, ConfigError, "Nothing says to which site"),
        ("case_id,split\nc01,test\n", {"a": 2}, ConfigError, "want 2 cases, but there are 1"),
        (
            "case_id,site,split,patient_id\nc01,a,test,p\nc02,b,train,p\n",
            None,
            CaseError,
            r"Patient p is in split test \(case c01\) and in split train \(case c02\)",
        ),
    ],
)
def test_a_placement_that_contradicts_itself_is_refused(tmp_path, text, sites, error, message):
    rows = read_rows(write_table(tmp_path, text))

    with pytest.raises(error, match=message):
        place_cases(PATIENTS, rows=rows, sites=sites)
