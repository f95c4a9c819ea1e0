"""Import of plain files that a table lists."""

from __future__ import annotations

import pytest

from segfed.errors import CaseError, ConfigError
from segfed.sites import load_site, select_labels
from segfed.sites.imports import DataFormat, import_data_set
from segfed.volumes import write_image, write_label
from tests.sites_samples import make_image, make_label, write_task


def write_files(folder):
    for number in range(2):
        write_image(make_image(number), folder / f"images/i{number}.nii.gz")
        write_label(make_label(), folder / f"l{number}.nrrd")


def run_import(folder, text, **options):
    table = folder / "table.csv"
    table.write_text(text)
    options = {"task": write_task(folder)} | options
    return import_data_set(table, folder / "sites", data_format=DataFormat.NIFTI, **options)


def test_one_table_says_everything_with_paths_relative_to_it(tmp_path):
    write_files(tmp_path)

    summary = run_import(
        tmp_path,
        "case_id,patient_id,site,split,image,label\n"
        "c0,p0,x,train,images/i0.nii.gz,l0.nrrd\n"
        "c1,p1,x,test,images/i1.nii.gz,\n",
    )

    site = load_site(tmp_path / "sites/x")
    assert summary.counts == {"x": {"train": 1, "test": 1}}
    assert site.case("c1").patient_id == "p1"
    assert len(select_labels(site, split="train", arm="manual")) == 1
    assert site.ledger().records("c1") == ()


def test_several_channels_have_a_column_each_by_name_or_alias(tmp_path):
    for seed in range(4):
        write_image(make_image(seed), tmp_path / f"{seed}.nii.gz")

    run_import(
        tmp_path,
        "case_id,t1,t1ce,t2w,flair\nb0,0.nii.gz,1.nii.gz,2.nii.gz,3.nii.gz\n",
        task="brain_tumor",
        sites={"x": None},
    )

    channels = load_site(tmp_path / "sites/x").case("b0").channels
    assert channels["t1c"].read_bytes() == (tmp_path / "1.nii.gz").read_bytes()
    assert channels["t2f"].read_bytes() == (tmp_path / "3.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("case_id,imag\nc0,images/i0.nii.gz\n", ConfigError, "'imag', did you mean 'image'"),
        ("case_id,image,t1\nc0,images/i0.nii.gz,images/i1.nii.gz\n", ConfigError, "two columns"),
        ("case_id,label\nc0,l0.nrrd\n", CaseError, "c0 has no image of channel t1"),
        ("case_id,image\nc0,images/none.nii.gz\n", CaseError, "none.nii.gz is missing"),
        ("case_id,image\n../c0,images/i0.nii.gz\n", CaseError, "cannot be a file name"),
    ],
)
def test_a_wrong_table_is_explained(tmp_path, text, error, message):
    write_files(tmp_path)

    with pytest.raises(error, match=message):
        run_import(tmp_path, text, sites={"x": None})
