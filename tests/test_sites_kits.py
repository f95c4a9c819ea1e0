"""Import of KiTS folders."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.errors import CaseError, ConfigError
from segfed.sites import load_site, load_task, select_labels
from segfed.sites.imports import DataFormat, find_kits, import_data_set, read_source_label
from segfed.volumes import read_label, write_image, write_label
from tests.sites_samples import make_image, make_label


def write_kits(folder, *, core_value=2):
    for number in range(3):
        case = folder / f"case_0000{number}"
        write_image(make_image(number), case / "imaging.nii.gz")
        write_label(make_label(core_value), case / "segmentation.nii.gz")
    return folder


def run_import(folder, sites_root, **options):
    return import_data_set(
        folder, sites_root, data_format=DataFormat.KITS, task="kidney_tumor", **options
    )


def test_without_the_year_of_the_labels_nothing_is_imported(tmp_path):
    with pytest.raises(ConfigError, match=r"Nothing says where the labels of .* come from"):
        run_import(write_kits(tmp_path / "kits"), tmp_path / "sites", sites={"x": None})


@pytest.mark.parametrize("inner", ["", "data", "dataset"])
def test_cases_are_found_in_the_repository_and_in_its_data_folder(tmp_path, inner):
    write_kits(tmp_path / inner)

    assert [case.case_id for case in find_kits(tmp_path)] == [
        "case_00000",
        "case_00001",
        "case_00002",
    ]


def test_cases_arrive_at_the_sites_of_a_table(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("case_id,site,split\ncase_00000,x,train\ncase_00002,y,test\n")

    summary = run_import(
        write_kits(tmp_path / "kits", core_value=3), tmp_path, source="kits23", table=table
    )

    assert summary.counts == {"x": {"train": 1}, "y": {"test": 1}}
    (labelled,) = select_labels(load_site(tmp_path / "y"), split="test", arm="manual")
    assert np.unique(read_label(labelled.label_path).data).tolist() == [0, 1, 3]


def test_a_case_without_an_image_is_refused_by_name_before_anything_is_written(tmp_path):
    folder = write_kits(tmp_path / "kits")
    (folder / "case_00001/imaging.nii.gz").unlink()

    with pytest.raises(CaseError, match="case_00001 has no image of channel ct"):
        run_import(folder, tmp_path / "sites", source="kits19", sites={"x": None})
    assert not (tmp_path / "sites").exists()


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No KiTS case at"):
        find_kits(tmp_path)


def test_real_labels_come_without_images_and_are_read_in_place(shared_data):
    found = find_kits(shared_data("kits19_labels"))

    assert len(found) == 96
    assert not any(case.channels for case in found)
    # The smallest file, so that the test stays quick
    case = min(found, key=lambda case: case.label.stat().st_size)
    label = read_source_label(
        case.label, task=load_task("kidney_tumor"), source="kits19", case_id=case.case_id
    )
    assert set(np.unique(label.data)) <= {0, 1, 2}
    assert label.grid.orientation == "IPL"
