"""Import of Decathlon folders, made up and real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segfed.errors import ConfigError
from segfed.sites import check_site, load_site, select_labels
from segfed.sites.imports import DataFormat, find_msd, import_data_set
from segfed.sites.tasks import load_task
from segfed.volumes import read_image, read_label, write_image, write_label
from tests.sites_samples import make_image, make_label

HIPPOCAMPUS = Path(__file__).parents[1] / "docs/examples/hippocampus/hippocampus.toml"


def write_msd(folder: Path, **changes: object) -> Path:
    """Three cases in Decathlon form, with the twins that macOS adds."""
    pairs = []
    for name in ("bean_001", "bean_002", "bean_003"):
        write_image(make_image(), folder / "imagesTr" / f"{name}.nii.gz")
        write_label(make_label(), folder / "labelsTr" / f"{name}.nii.gz")
        (folder / "imagesTr" / f"._{name}.nii.gz").write_bytes(b"resource fork")
        pairs += [
            {"image": f"./imagesTr/{stem}.nii.gz", "label": f"./labelsTr/{stem}.nii.gz"}
            for stem in (name, f"._{name}")
        ]
    content = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": pairs,
    }
    (folder / "dataset.json").write_text(json.dumps(content | changes))
    return folder


def run_import(folder, sites_root, **options):
    return import_data_set(
        folder, sites_root, data_format=DataFormat.MSD, task=HIPPOCAMPUS, **options
    )


def test_cases_come_from_the_list_without_the_twins_of_macos(tmp_path):
    summary = run_import(write_msd(tmp_path / "msd"), tmp_path, sites={"a": 2, "b": 1})

    assert summary.n_new == 3
    assert sum(summary.counts["a"].values()) == 2
    assert summary.counts["b"] == {"train": 1}


def test_a_table_places_cases(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("case_id,site,split\nbean_002,x,test\n")

    summary = run_import(write_msd(tmp_path / "msd"), tmp_path, table=table)

    assert summary.counts == {"x": {"test": 1}}
    assert summary.left_out == ("bean_001", "bean_003")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"0": "background", "5": "Tail"}}, r"knows \[0, 1, 2\] from 'msd'.*remaps.msd"),
        ({"modality": {"0": "FLAIR", "1": "T1w"}}, "expected one of each.*format nifti"),
        ({"training": [{"image": "a.nii.gz"}]}, "not a Decathlon file: KeyError"),
    ],
)
def test_a_data_set_that_contradicts_the_task_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        find_msd(write_msd(tmp_path, **changes), task=load_task(HIPPOCAMPUS))


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.json is missing"):
        find_msd(tmp_path, task=load_task(HIPPOCAMPUS))
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ConfigError, match="not a Decathlon file"):
        find_msd(tmp_path, task=load_task(HIPPOCAMPUS))


def test_the_real_hippocampus_set_goes_into_four_uneven_sites(tmp_path, shared_data):
    folder = shared_data("hippocampus")

    summary = run_import(folder, tmp_path, sites={"a": 100, "b": 50, "c": 30, "d": 20}, seed=0)

    # test: max(20 %, 8), validation: max(10 %, 2)
    assert summary.counts == {
        "a": {"test": 20, "validation": 10, "train": 70},
        "b": {"test": 10, "validation": 5, "train": 35},
        "c": {"test": 8, "validation": 3, "train": 19},
        "d": {"test": 8, "validation": 2, "train": 10},
    }
    site = load_site(tmp_path / "d")
    assert check_site(site) == ()
    for labelled in select_labels(site, split="test", arm="manual"):
        name = f"{labelled.case.case_id}.nii.gz"
        stored, original = read_label(labelled.label_path), read_label(folder / "labelsTr" / name)
        assert (stored.data == original.data).all()
        assert (
            labelled.case.channels["t1"].read_bytes() == (folder / "imagesTr" / name).read_bytes()
        )
        assert stored.grid.matches(read_image(folder / "imagesTr" / name).grid)
