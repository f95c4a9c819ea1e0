"""Records survive the way to disk and back, with everything that CSV and JSON cannot say."""

from __future__ import annotations

import math

import pytest

from segfed.errors import ConfigError
from segfed.files import write_rows
from segfed.study.records import (
    LabelRow,
    ScoreRow,
    read_labels,
    read_scores,
    read_study,
)


def score(value):
    return ScoreRow("local", "manual", 0, "a", "b", True, "case-1", "tumor", "dice", value)


def test_scores_keep_their_last_digit_and_what_is_not_a_number(tmp_path):
    path = tmp_path / "scores.csv"
    write_rows(path, [score(0.1 + 0.2), score(math.inf), score(math.nan)], ScoreRow)

    first, second, third = read_scores(path)

    assert first == score(0.1 + 0.2)
    assert second.value == math.inf
    assert math.isnan(third.value)


def test_a_label_without_proposal_keeps_its_empty_cells(tmp_path):
    row = LabelRow(
        "a", "case-1", "manual", "r", "manual", "1", "2", None, None, None, None, None, None, None
    )
    write_rows(tmp_path / "labels.csv", [row], LabelRow)

    assert read_labels(tmp_path / "labels.csv") == (row,)


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"No study.json in .*; expected the folder of a finished"
    ):
        read_study(tmp_path)


def test_a_table_of_another_version_is_refused_with_its_columns(tmp_path):
    (tmp_path / "scores.csv").write_text("regime,value\nlocal,1\n")

    with pytest.raises(ConfigError, match=r"begins with the columns \['regime', 'value'\]"):
        read_scores(tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("cell", "damaged", "problem"),
    [
        (",0,", ",zero,", r"scores.csv, line 2: seed is 'zero'.*valid integer"),
        (",True,", ",perhaps,", "external is 'perhaps'.*valid boolean"),
        (",0.5\n", "\n", "value is None.*valid number"),
    ],
)
def test_a_damaged_cell_is_named_with_its_line(tmp_path, cell, damaged, problem):
    path = tmp_path / "scores.csv"
    write_rows(path, [score(0.5)], ScoreRow)
    path.write_text(path.read_text().replace(cell, damaged))

    with pytest.raises(ConfigError, match=f"{problem}.*Run the study again"):
        read_scores(path)


def test_labels_of_a_run_from_before_some_columns_were_written_can_be_read(tmp_path):
    label = LabelRow(
        "a", "1", "manual", "ann", "manual", "1" * 64, "2" * 64, None, None, 60.0, None, None,
        None, None, period=2, proposal_dice=0.9, reference="bob", reference_dice=0.8,
    )  # fmt: skip
    write_rows(tmp_path / "labels.csv", [label], LabelRow)
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    old = "\n".join(",".join(line.split(",")[:14]) for line in lines) + "\n"
    (tmp_path / "old.csv").write_text(old)

    assert read_labels(tmp_path / "labels.csv") == (label,)
    (earlier,) = read_labels(tmp_path / "old.csv")
    assert (earlier.active_seconds, earlier.period, earlier.reference_dice) == (60.0, None, None)
