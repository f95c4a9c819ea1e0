"""Agreement between readers is averaged over cases and sites, and told as the ceiling it is."""

from __future__ import annotations

import math

import pytest

from segfed.files import write_rows
from segfed.report.agreement import summarize_agreement
from segfed.study.records import AGREEMENT_FILE, AgreementRow, read_agreement


def row(site, case, dice, *, readers=("ann", "bob")):
    return AgreementRow(site, case, *readers, "tumor", dice)


def test_pairs_of_a_case_count_once_and_sites_alike():
    rows = [
        row("a", "1", 0.8),
        row("a", "1", 0.6, readers=("ann", "cem")),
        row("b", "1", 0.9),
        row("b", "2", 0.7),
        row("b", "3", math.nan),
    ]

    found = summarize_agreement(rows, n_bootstrap=200)

    # Site a: (0.8 + 0.6) / 2 = 0.7; site b: (0.9 + 0.7) / 2 = 0.8.
    assert found["structures"]["tumor"]["mean"] == pytest.approx(0.75)
    assert found["structures"]["tumor"]["n_nan"] == 1
    # Readers of the same name at two sites are two.
    assert (found["n_cases"], found["n_readers"]) == (4, 5)
    assert found["sentence"].startswith("5 readers who drew the same 4 cases by hand agree")


def test_without_a_second_reader_there_is_nothing_to_tell():
    assert summarize_agreement((), n_bootstrap=200) is None


def test_rows_survive_their_file_and_a_run_without_it_has_none(tmp_path):
    rows = (row("a", "1", 0.8),)
    write_rows(tmp_path / AGREEMENT_FILE, rows, AgreementRow)

    assert read_agreement(tmp_path / AGREEMENT_FILE) == rows
    assert read_agreement(tmp_path / "elsewhere.csv") == ()
