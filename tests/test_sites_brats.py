"""Import of BraTS cases: names of files, and the one real case with its quirks."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from segfed.errors import CaseError, ConfigError, LabelError
from segfed.sites import check_site, load_site, load_task, select_labels
from segfed.sites.imports import DataFormat, find_brats, import_data_set
from segfed.volumes import read_channels, read_label, write_image, write_label
from tests.sites_samples import make_image, make_label

BRAIN = load_task("brain_tumor")


def write_brats(folder, case_id, suffixes, *, core_value=2):
    for seed, suffix in enumerate(suffixes):
        write_image(make_image(seed), folder / case_id / f"{case_id}{suffix}.nii.gz")
    write_label(make_label(core_value), folder / case_id / f"{case_id}{suffixes[0][0]}seg.nii.gz")
    return folder


def run_import(folder, sites_root, **options):
    return import_data_set(
        folder, sites_root, data_format=DataFormat.BRATS, task="brain_tumor", **options
    )


def test_names_of_every_year_are_understood(tmp_path):
    write_brats(tmp_path, "BraTS2021_00002", ["_t1", "_t1ce", "_t2", "_flair"])
    write_brats(tmp_path, "BraTS-GLI-00005-001", ["-t1n", "-t1c", "-t2W", "-t2f"])
    (tmp_path / "._BraTS2021_00002_t1.nii.gz").write_bytes(b"macOS writes such twins")

    late, early = find_brats(tmp_path, task=BRAIN)

    assert (early.case_id, early.patient_id) == ("BraTS2021_00002", "BraTS2021_00002")
    assert early.channels["t2f"].name == "BraTS2021_00002_flair.nii.gz"
    assert (late.case_id, late.patient_id) == ("BraTS-GLI-00005-001", "BraTS-GLI-00005")
    assert late.channels["t2w"].name == "BraTS-GLI-00005-001-t2W.nii.gz"


def test_labels_are_read_by_the_declared_year(tmp_path):
    folder = write_brats(
        tmp_path / "in", "BraTS2021_00002", ["_t1", "_t1ce", "_t2", "_flair"], core_value=4
    )

    with pytest.raises(LabelError, match=r"BraTS2021_00002.*\[4\].*'brats2023'"):
        run_import(folder, tmp_path, source="brats2023", sites={"x": None})
    run_import(folder, tmp_path, source="brats2021", sites={"x": None})

    (labelled,) = select_labels(load_site(tmp_path / "x"), split="train", arm="manual")
    assert np.unique(read_label(labelled.label_path).data).tolist() == [0, 1, 3]


def test_a_missing_channel_is_named_with_its_case(tmp_path):
    folder = write_brats(tmp_path / "in", "BraTS2021_00002", ["_t1", "_t1ce", "_flair"])

    with pytest.raises(CaseError, match="BraTS2021_00002 has no image of channel t2w"):
        run_import(folder, tmp_path, source="brats2021", sites={"x": None})


@pytest.mark.parametrize(
    ("suffix", "message"),
    [("_t1n", "both t1n"), ("_adc", "'adc' is no channel of task 'brain_tumor'")],
)
def test_a_file_too_many_is_refused(tmp_path, suffix, message):
    folder = write_brats(tmp_path, "BraTS2021_00002", ["_t1", "_t1ce", "_t2", "_flair", suffix])

    with pytest.raises(CaseError, match=message):
        find_brats(folder, task=BRAIN)


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No BraTS case below"):
        find_brats(tmp_path, task=BRAIN)


def test_the_real_case_with_float_labels_a_capital_and_lps_axes(tmp_path, shared_data):
    folder = shared_data("brats_case")

    run_import(folder, tmp_path, source="brats2023", sites={"x": None})

    site = load_site(tmp_path / "x")
    assert check_site(site) == ()
    (labelled,) = select_labels(site, split="train", arm="manual")
    assert labelled.case.case_id == "BraTS-GLI-00000-000"
    assert labelled.case.patient_id == "BraTS-GLI-00000"
    image, label = read_channels(labelled.case.channels), read_label(labelled.label_path)
    assert image.data.shape == (4, 240, 240, 155)
    assert label.grid.orientation == image.grid.orientation == "LPS"
    # An independent reading of the source: the same voxels in the same places
    source = nib.load(folder / "BraTS-GLI-00000-000-seg.nii.gz")
    assert label.data.dtype == np.uint8
    np.testing.assert_array_equal(label.data[0], np.asarray(source.dataobj))
    np.testing.assert_allclose(label.grid.affine, source.affine, atol=1e-6)
