"""What a person sees at the command line: results, usage errors, and errors in one paragraph."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from segfed.cli import console, main
from segfed.cli.main import app
from segfed.volumes import Grid, Volume, write_label

GRID = Grid((6, 5, 4), np.diag([1.0, 1.5, 3.0, 1.0]))


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and stdout of a command that does not fail."""
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout


def fail(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and error text of a command that fails."""
    monkeypatch.setattr(sys, "argv", ["segfed", *arguments])
    with console.err.capture() as captured, pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0), captured.get()


def write_case(folder: Path, name: str, values: list[int]) -> None:
    """A label whose first voxels along I hold some values."""
    data = np.zeros((1, *GRID.shape), dtype=np.uint8)
    data[0, : len(values), 0, 0] = values
    write_label(Volume(data, GRID), folder / f"{name}.nii.gz")


def test_tasks_can_be_listed_for_a_program():
    code, output = run("task", "list", "--json")

    assert code == 0
    assert {"brain_tumor", "kidney_tumor"} <= {task["name"] for task in json.loads(output)}


def test_an_unknown_task_is_one_paragraph_with_a_suggestion(monkeypatch):
    code, text = fail(["task", "show", "kidney_tumour"], monkeypatch)

    assert code == 1
    assert "Did you mean 'kidney_tumor'?" in " ".join(text.split())
    assert "Traceback" not in text


def test_verbose_shows_where_an_error_arose(monkeypatch):
    code, text = fail(["--verbose", "task", "show", "kidney_tumour"], monkeypatch)

    assert code == 1
    assert "Traceback" in text


def test_a_missing_argument_is_a_usage_error(monkeypatch):
    code, _ = fail(["task", "show"], monkeypatch)

    assert code == 2


def test_a_new_site_has_no_case_and_its_check_says_so(tmp_path):
    folder = str(tmp_path / "north")

    assert run("site", "init", folder, "--task", "kidney_tumor")[0] == 0
    code, output = run("site", "check", folder, "--json")

    assert code == 1
    assert "has no case" in json.loads(output)["problems"][0]["message"]


@pytest.mark.parametrize("text", ["a=", "a=b", "=3", "a=1,a=2"])
def test_a_misspelt_rule_for_sites_is_a_usage_error(tmp_path, text, monkeypatch):
    arguments = ["site", "import", str(tmp_path), "--out", str(tmp_path / "sites")]
    arguments += ["--format", "msd", "--task", "kidney_tumor", "--sites", text]

    # "a=" takes what is left, as "a" does, so it fails later: there is no data set
    assert fail(arguments, monkeypatch)[0] == (1 if text == "a=" else 2)


def test_label_values_of_two_years_are_never_guessed(tmp_path, monkeypatch):
    arguments = ["site", "import", str(tmp_path), "--out", str(tmp_path / "sites")]

    code, text = fail([*arguments, "--format", "brats", "--task", "brain_tumor"], monkeypatch)

    assert code == 1
    assert "Name it with --source" in " ".join(text.split())


def test_scores_of_two_folders(tmp_path):
    # tumor {2}: 1 voxel in common of 2 and 1 -> 2 * 1 / 3
    write_case(tmp_path / "reference", "case", [1, 2, 2])
    write_case(tmp_path / "predicted", "case", [1, 2, 1])
    folders = [str(tmp_path / name) for name in ("reference", "predicted")]

    code, output = run(
        "evaluate", *folders, "--task", "kidney_tumor", "--out", str(tmp_path / "out"), "--json"
    )

    assert code == 0
    tumor = json.loads(output)["structures"]["tumor"]["metrics"]["dice"]
    assert tumor["mean"] == pytest.approx(2 / 3)
    assert (tmp_path / "out" / "scores.csv").is_file()


def test_a_site_name_that_cannot_be_is_one_paragraph(monkeypatch, tmp_path):
    arguments = ["site", "init", str(tmp_path / "new"), "--task", "kidney_tumor"]

    code, text = fail([*arguments, "--name", "St Mary"], monkeypatch)

    assert code == 1
    assert "name: " in text
    assert "'St Mary'" in " ".join(text.split())
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_one_paragraph(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "site"

    code, text = fail(["site", "init", str(folder), "--task", "kidney_tumor"], monkeypatch)

    assert code == 1
    assert "Not a directory; expected" in " ".join(text.split())
    assert str(folder) in text.replace("\n", "")
    assert "Traceback" not in text


def test_a_full_disk_is_explained_although_no_file_is_named(monkeypatch):
    def fill_the_disk() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys.modules["segfed.cli.main"], "app", fill_the_disk)

    code, text = fail(["study", "run"], monkeypatch)

    assert code == 1
    assert "Error: No space left on device; expected" in " ".join(text.split())


def test_a_negative_seed_of_an_import_is_wrong_usage(tmp_path):
    arguments = ["site", "import", str(tmp_path), "--out", str(tmp_path), "--format", "msd"]

    code, _ = run(*arguments, "--task", "kidney_tumor", "--seed", "-1")

    assert code == 2


def test_help_does_not_wait_for_torch():
    code = "import sys; import segfed.cli.main; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_study_file_in_place_of_its_run_is_explained(monkeypatch, tmp_path):
    study = tmp_path / "study.toml"
    study.touch()

    code, text = fail(["report", str(study)], monkeypatch)

    assert code == 1
    assert "expected the folder of a finished study" in " ".join(text.split())


def test_brackets_of_a_message_are_shown(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with console.err.capture() as captured:
        console.show_warnings(["[plan] says nothing"])

    assert "[plan] says nothing" in captured.get()
    assert "pip install 'segfed[onnx]'" in " ".join(run("model", "export", "--help")[1].split())
