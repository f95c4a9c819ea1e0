"""Folders of labels: matching, refusals, and what is written."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from segfed.errors import CaseError, GeometryError, LabelError
from segfed.evaluation import evaluate_folders, write_evaluation
from segfed.sites import load_task
from segfed.volumes import Grid, Volume, write_label

SHAPE = (12, 10, 8)


def save(folder: Path, name: str, *values: int, spacing_mm=(2.0, 1.0, 3.0)) -> None:
    """A label with one box of 3 x 4 x 3 voxels for each value, side by side."""
    data = np.zeros((1, *SHAPE), dtype=np.uint8)
    for index, value in enumerate(values):
        data[0, 3 * index : 3 * index + 3, 2:6, 2:5] = value
    write_label(Volume(data, Grid(SHAPE, np.diag([*spacing_mm, 1.0]))), folder / name)


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    reference, predicted = tmp_path / "reference", tmp_path / "predicted"
    reference.mkdir()
    predicted.mkdir()
    save(reference, "case.1.nii.gz", 1, 2, 3)
    return reference, predicted


def test_files_match_by_name_whatever_their_format(folders):
    reference, predicted = folders
    save(predicted, "case.1.nrrd", 1, 2, 3)
    (reference / "._case.1.nii.gz").write_bytes(b"macOS")
    (reference / "notes.txt").write_text("not a label")

    evaluation = evaluate_folders(reference, predicted, profile="kits23")

    assert {score.case_id for score in evaluation.scores} == {"case.1"}
    assert {score.value for score in evaluation.scores} == {1.0}


def test_a_missing_prediction_scores_as_empty_and_is_named(folders):
    reference, predicted = folders
    save(reference, "case.2.nii.gz", 1)
    save(predicted, "case.1.nii.gz", 1, 2, 3)
    save(predicted, "other.nii.gz", 1)

    evaluation = evaluate_folders(reference, predicted, profile="kits23")

    assert (evaluation.missing, evaluation.extra) == (("case.2",), ("other",))
    found = {
        score.structure: score.value
        for score in evaluation.scores
        if score.case_id == "case.2" and score.metric == "dice"
    }
    assert found == {"kidney_and_mass": 0, "mass": 1, "tumor": 1}


def test_the_generic_profile_finds_structures_in_both_folders(folders):
    reference, predicted = folders
    save(predicted, "case.1.nii.gz", 1, 2, 7)

    evaluation = evaluate_folders(reference, predicted, profile="generic")

    assert list(evaluation.profile.structures) == ["label_1", "label_2", "label_3", "label_7"]


def test_a_task_gives_the_generic_profile_its_structures(folders):
    reference, predicted = folders
    save(predicted, "case.1.nii.gz", 1, 2, 3)
    task = load_task("kidney_tumor")

    evaluation = evaluate_folders(reference, predicted, profile="generic", task=task)

    assert evaluation.profile.structures == task.structures


def test_another_grid_is_refused(folders):
    reference, predicted = folders
    save(predicted, "case.1.nii.gz", 1, spacing_mm=(2.0, 1.0, 2.0))

    with pytest.raises(GeometryError, match=r"case case\.1 .*2 x 1 x 2 mm.*2 x 1 x 3 mm"):
        evaluate_folders(reference, predicted, profile="kits23")


def test_a_value_that_the_profile_does_not_know_is_refused(folders):
    reference, predicted = folders
    save(predicted, "case.1.nii.gz", 1, 2, 4)

    with pytest.raises(LabelError, match=r"Case case\.1: .* value\(s\) \[4\].*\[1, 2, 3\]"):
        evaluate_folders(reference, predicted, profile="kits23")


@pytest.mark.parametrize("profile", ["kits23", "generic"])
def test_all_files_that_cannot_be_scored_are_named_at_once(folders, profile):
    reference, predicted = folders
    for name in ("case.1", "case.2", "case.3"):
        save(reference, f"{name}.nii.gz", 1)
        save(predicted, f"{name}.nii.gz", 1)
    (predicted / "case.1.nii.gz").write_bytes(b"cut off")
    (predicted / "case.3.nii.gz").write_bytes(b"cut off, too")

    with pytest.raises(CaseError, match=r"(?s)2 cases .*case\.1.*case\.3.*Nothing was written"):
        evaluate_folders(reference, predicted, profile=profile)


def test_folders_without_a_common_name_are_a_mistake(folders):
    reference, predicted = folders
    save(predicted, "prediction_1.nii.gz", 1)

    with pytest.raises(CaseError, match=r"None of the 1 predictions .*'prediction_1'.*'case\.1'"):
        evaluate_folders(reference, predicted, profile="kits23")


@pytest.mark.parametrize("emptied", ["reference", "predicted"])
def test_a_folder_without_labels_is_refused(folders, tmp_path, emptied):
    reference, predicted = folders
    save(predicted, "case.1.nii.gz", 1)
    empty = tmp_path / "empty"
    empty.mkdir()
    pair = (empty, predicted) if emptied == "reference" else (reference, empty)

    with pytest.raises(CaseError, match=f"Found no {emptied} labels in"):
        evaluate_folders(*pair, profile="kits23")


def test_a_missing_folder_and_two_files_of_one_name_are_refused(folders, tmp_path):
    reference, predicted = folders
    save(predicted, "case.1.nii.gz", 1)
    save(predicted, "case.1.nrrd", 1)

    with pytest.raises(CaseError, match=r"both case\.1\.nii\.gz and case\.1\.nrrd"):
        evaluate_folders(reference, predicted, profile="kits23")
    with pytest.raises(CaseError, match="Found no folder"):
        evaluate_folders(tmp_path / "nowhere", predicted, profile="kits23")


def test_what_is_written_can_be_read_back(folders, tmp_path):
    reference, predicted = folders
    save(predicted, "case.1.nii.gz", 1)
    seen = []
    evaluation = evaluate_folders(
        reference, predicted, profile="generic", task=load_task("kidney_tumor"), on_case=seen.append
    )

    write_evaluation(evaluation, tmp_path / "out")

    written = (tmp_path / "out" / "scores.csv").read_text()
    rows = list(csv.DictReader(written.splitlines()))
    assert list(rows[0]) == ["case", "structure", "metric", "value"]
    assert [float(row["value"]) for row in rows] == pytest.approx(
        [score.value for score in evaluation.scores], nan_ok=True, abs=0
    )
    tumor = next(r for r in rows if (r["structure"], r["metric"]) == ("tumor", "hd95_mm"))
    assert math.isinf(float(tumor["value"]))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["structures"]["tumor"]["metrics"]["hd95_mm"]["mean"] is None
    assert seen == ["case.1"]
