"""Imports: whole or not at all, and safe to run again."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from segfed.errors import CaseError, ConfigError, GeometryError, LabelError
from segfed.sites import create_site, load_site, select_labels
from segfed.sites.imports import SourceCase, import_cases, source
from segfed.sites.site import SiteSettings
from segfed.volumes import Volume, read_label, write_image, write_label
from tests.sites_samples import make_grid, make_image, make_label, write_task

N_CASES = 4


def find_cases(folder: Path) -> list[SourceCase]:
    """Cases in the numbers of the source "garden", where the core is 4."""
    found = []
    for index in range(N_CASES):
        image, label = folder / f"bean{index}.nii.gz", folder / f"bean{index}-label.nii.gz"
        write_image(make_image(index), image)
        write_label(make_label(core_value=4), label)
        found.append(SourceCase(f"bean{index}", f"p{index}", {"t1": image}, label))
    return found


def import_all(folder: Path, found: list[SourceCase], **changes):
    options = {
        "sites_root": folder / "sites",
        "task": write_task(folder),
        "source": "garden",
        "sites": {"north": None},
    }
    return import_cases(found, **(options | changes))


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that an import leaves, but for the ledger, whose times differ."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "ledger" not in path.name
    }


def killed_import(folder: Path, found: list[SourceCase], step: str, calls: int) -> None:
    """Import in a process that is killed at the given call of one of its steps."""
    real, seen = getattr(source, step), []

    def kill_or_do(*args, **kwargs):
        seen.append(step)
        if len(seen) == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(source, step, kill_or_do)
    import_all(folder, found)


def test_cases_arrive_with_their_labels_in_the_tasks_values(tmp_path):
    found = find_cases(tmp_path)
    steps = []

    summary = import_all(tmp_path, found, on_case=lambda *step: steps.append(step))

    # 4 cases: half for testing at most, 2 for validation would leave none; one always trains
    site = load_site(tmp_path / "sites/north")
    assert summary.counts["north"] == {"test": 2, "validation": 1, "train": 1}
    assert (summary.n_new, summary.n_known, summary.left_out) == (N_CASES, 0, ())
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    (labelled,) = select_labels(site, split="train", arm="manual")
    assert sorted(np.unique(read_label(labelled.label_path).data)) == [0, 1, 2]
    assert (labelled.record.reader, labelled.record.origin) == ("import", "manual")


def test_a_second_import_changes_nothing(tmp_path):
    found = find_cases(tmp_path)
    import_all(tmp_path, found)
    before = contents(tmp_path / "sites")

    summary = import_all(tmp_path, found)

    assert (summary.n_new, summary.n_known) == (0, N_CASES)
    assert contents(tmp_path / "sites") == before
    assert len(load_site(tmp_path / "sites/north").ledger().records()) == N_CASES


@pytest.mark.parametrize("step", ["place_images", "submit_label", "list_case"])
def test_an_import_that_was_killed_goes_on_to_the_same_end(tmp_path, step):
    found = find_cases(tmp_path)
    import_all(tmp_path, found, sites_root=tmp_path / "unbroken")
    fork = multiprocessing.get_context("fork")

    worker = fork.Process(target=killed_import, args=(tmp_path, found, step, 3))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    site = load_site(tmp_path / "sites/north")
    assert len(site.cases) == 2

    summary = import_all(tmp_path, found)

    assert (summary.n_new, summary.n_known) == (2, 2)
    assert contents(tmp_path / "sites") == contents(tmp_path / "unbroken")
    assert len(site.ledger().records()) == N_CASES
    site.ledger().verify()


def test_another_image_or_label_under_a_known_name_is_refused(tmp_path):
    found = find_cases(tmp_path)
    import_all(tmp_path, found)

    write_image(make_image(seed=77), tmp_path / "bean2.nii.gz")
    with pytest.raises(CaseError, match=r"Case bean2.*already holds another image"):
        import_all(tmp_path, found)
    write_image(make_image(seed=2), tmp_path / "bean2.nii.gz")
    write_label(make_label(core_value=4, size=2), tmp_path / "bean2-label.nii.gz")
    with pytest.raises(CaseError, match=r"Case bean2.*never replaces a label"):
        import_all(tmp_path, found)


def test_files_that_are_missing_are_all_named_before_anything_is_written(tmp_path):
    found = find_cases(tmp_path)
    (tmp_path / "bean1.nii.gz").unlink()
    found[3] = SourceCase("bean3", "p3", {}, found[3].label)

    with pytest.raises(CaseError, match=r"2 file.*bean1\.nii\.gz is missing.*bean3 has no image"):
        import_all(tmp_path, found)
    assert not (tmp_path / "sites").exists()


def test_a_case_with_a_wrong_label_leaves_no_trace_of_itself(tmp_path):
    found = find_cases(tmp_path)[:1]

    write_label(make_label(core_value=2), tmp_path / "bean0-label.nii.gz")
    with pytest.raises(LabelError, match=r"Case bean0.*\[2\].*'garden' hold \[0, 1, 4\]"):
        import_all(tmp_path, found)
    moved = Volume(make_label(core_value=4).data, make_grid(shift_mm=5))
    write_label(moved, tmp_path / "bean0-label.nii.gz")
    with pytest.raises(GeometryError, match=r"bean0.*is on another grid than the image"):
        import_all(tmp_path, found)

    left = {path.name for path in (tmp_path / "sites/north").iterdir()}
    assert left == {"site.toml", "task.toml"}


def test_all_cases_that_cannot_be_used_are_named_and_the_others_are_there(tmp_path):
    found = find_cases(tmp_path)
    found[1].channels["t1"].write_bytes(b"cut off")
    write_label(make_label(core_value=9), found[2].label)

    with pytest.raises(CaseError, match=r"(?s)2 cases .*bean1.*bean2.*other cases are"):
        import_all(tmp_path, found)

    assert {case.case_id for case in load_site(tmp_path / "sites/north").cases} == {
        "bean0",
        "bean3",
    }
    write_image(make_image(1), found[1].channels["t1"])
    write_label(make_label(core_value=4), found[2].label)
    assert import_all(tmp_path, found).n_new == 2


def test_a_case_without_a_label_is_imported_without_one(tmp_path):
    (case, *_) = find_cases(tmp_path)

    import_all(tmp_path, [SourceCase(case.case_id, case.patient_id, case.channels, None)])

    site = load_site(tmp_path / "sites/north")
    assert len(site.cases) == 1
    assert site.ledger().records() == ()


def test_cases_that_nothing_places_stay_out_and_are_named(tmp_path):
    rows = [{"case_id": "bean2", "site": "north", "split": "train"}]

    summary = import_all(tmp_path, find_cases(tmp_path), rows=rows, sites=None)

    assert summary.counts == {"north": {"train": 1}}
    assert summary.left_out == ("bean0", "bean1", "bean3")


def test_a_site_that_exists_keeps_its_settings_and_one_with_another_task_is_refused(tmp_path):
    settings = SiteSettings(
        name="north", task=str(write_task(tmp_path)), contact="ann", data="synthetic"
    )
    create_site(tmp_path / "sites/north", settings)
    create_site(tmp_path / "sites/south", SiteSettings(name="south", task="kidney_tumor"))
    found = find_cases(tmp_path)

    import_all(tmp_path, found)
    assert load_site(tmp_path / "sites/north").settings.contact == "ann"
    with pytest.raises(ConfigError, match="has task 'kidney_tumor', but the import is for 'bean'"):
        import_all(tmp_path, found, sites={"south": None})


def test_an_undeclared_source_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="no table for labels from 'orchard'"):
        import_all(tmp_path, find_cases(tmp_path), source="orchard")
    assert not (tmp_path / "sites").exists()


def test_a_site_name_that_cannot_be_is_refused_before_anything_is_written(tmp_path):
    found = find_cases(tmp_path)
    rows = [
        {"case_id": "bean0", "site": "north", "split": "train"},
        {"case_id": "bean1", "site": "", "split": "train"},
    ]

    with pytest.raises(ConfigError, match=r"Site 'st mary' of the import has 1 problem"):
        import_all(tmp_path, found, sites={"north": 1, "st mary": 2})
    with pytest.raises(ConfigError, match=r"Site '' of the import has 1 problem"):
        import_all(tmp_path, found, rows=rows, sites=None)
    assert not (tmp_path / "sites").exists()
