"""The list of cases: what may stand in it, and that two writers lose nothing."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from segfed.errors import CaseError, ConfigError, VolumeError
from segfed.sites import load_site, load_task
from segfed.sites.cases import Case, check_case_id, list_case, naming_case, read_cases
from tests.sites_samples import make_site


def make_case(number: int, **changes: str) -> Case:
    fields = {
        "case_id": f"c{number}",
        "patient_id": f"p{number}",
        "split": "train",
        "image_sha256": "0" * 64,
    }
    return Case(**(fields | changes), channels={})  # type: ignore[arg-type]


def list_ten(folder: Path, first: int) -> None:
    for number in range(first, first + 10):
        list_case(folder, make_case(number), task=load_task("kidney_tumor"))


def test_a_site_lists_its_cases_with_their_files(tmp_path):
    site = make_site(tmp_path, splits=("train", "test", "test"))

    assert [case.case_id for case in site.split("test")] == ["case1", "case2"]
    assert site.case("case0").channels == {"t1": site.folder / "images/case0.nii.gz"}
    with pytest.raises(CaseError, match=r"no case 'case9' among 3. Did you mean"):
        site.case("case9")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.b", ".hidden", "-x", "ä", "x" * 101])
def test_a_name_that_is_no_safe_file_name_is_refused(name):
    with pytest.raises(CaseError, match="cannot be a file name"):
        check_case_id(name)


def test_listing_a_case_again_changes_nothing_and_another_one_under_its_name_is_refused(tmp_path):
    task = load_task("kidney_tumor")
    list_case(tmp_path, make_case(1), task=task)
    before = (tmp_path / "cases.csv").read_bytes()

    again = read_cases(tmp_path, task)[0]
    list_case(tmp_path, again, task=task)
    with pytest.raises(CaseError, match=r"c1 is already in .* split train.*found p1, test"):
        list_case(tmp_path, make_case(1, split="test"), task=task)

    assert (tmp_path / "cases.csv").read_bytes() == before


def test_one_patient_in_two_splits_is_refused(tmp_path):
    task = load_task("kidney_tumor")
    list_case(tmp_path, make_case(1), task=task)

    with pytest.raises(CaseError, match=r"patient p1.*train \(case c1\).*test \(case c2\)"):
        list_case(tmp_path, make_case(2, patient_id="p1", split="test"), task=task)
    list_case(tmp_path, make_case(3, patient_id="p1"), task=task)

    assert len(read_cases(tmp_path, task)) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("split,", "spilt,", "begins with the columns"),
        (",test,", ",tset,", "case case1 is in split 'tset', expected one of warmup, train"),
        ("case1,patient1,test", "case0,patient1,test", "listed twice"),
        ("case1,patient1,test", "case1,patient0,test", "patient patient0 is in split train"),
        ("case1,", "../1,", "cannot be a file name"),
    ],
)
def test_a_list_that_was_edited_wrongly_is_refused(tmp_path, old, new, message):
    path = make_site(tmp_path).folder / "cases.csv"
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises((ConfigError, CaseError), match=message):
        load_site(path.parent)


def test_two_processes_that_list_cases_lose_none(tmp_path):
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=list_ten, args=(tmp_path, first)) for first in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    listed = {case.case_id for case in read_cases(tmp_path, load_task("kidney_tumor"))}
    assert listed == {f"c{number}" for number in range(20)}


def test_an_error_that_lacks_the_case_gets_its_name():
    with pytest.raises(VolumeError, match=r"^Case c7: file is empty$"), naming_case("c7"):
        raise VolumeError("file is empty")
    with pytest.raises(VolumeError, match=r"^c7.nii is empty$"), naming_case("c7"):
        raise VolumeError("c7.nii is empty")
