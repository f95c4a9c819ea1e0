"""CT rendered around real masks of KiTS19."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.errors import CaseError, ConfigError
from segfed.phantom import sites_from_labels
from segfed.phantom.rendered import thin
from segfed.sites import select_labels
from segfed.sites.check import check_site
from segfed.volumes import Grid, Volume, read_grid, read_image, read_label, write_label

TABLE = "case_ids,site_ids,train_test_split,train_test_split_silo\n"


def write_table(folder, *rows):
    path = folder / "table.csv"
    path.write_text(TABLE + "".join(f"{row},x\n" for row in rows))
    return path


@pytest.fixture
def masks(tmp_path):
    """A folder like KiTS19's, with three small masks that nobody drew on a patient."""
    label = np.zeros((14, 30, 30), dtype=np.uint8)
    label[3:10, 12:18, 5:11] = 1
    label[3:10, 12:18, 19:25] = 1
    label[5:8, 10:14, 8:12] = 2
    affine = np.array([[0, 0, -9, 130], [0, -8, 0, 110], [-12, 0, 0, 80], [0, 0, 0, 1.0]])
    volume = Volume(label[np.newaxis], Grid(label.shape, affine))
    for number in range(3):
        write_label(volume, tmp_path / "kits" / f"case_0000{number}" / "segmentation.nii.gz")
    return tmp_path / "kits"


def test_sites_follow_the_table_and_are_marked_as_rendered(masks, tmp_path):
    table = write_table(tmp_path, "case_00000,1,train", "case_00001,0,train", "case_00002,1,test")

    sites = sites_from_labels(masks, table=table, out=tmp_path / "sites")

    assert [site.name for site in sites] == ["kits19-0", "kits19-1"]
    assert {site.settings.data for site in sites} == {"rendered"}
    assert {case.case_id: case.split for case in sites[1].cases} == {
        "case_00000": "train",
        "case_00002": "test",
    }
    assert all(check_site(site) == () for site in sites)


def test_the_label_is_the_mask_itself(masks, tmp_path):
    table = write_table(tmp_path, "case_00000,0,train")

    (site,) = sites_from_labels(masks, table=table, out=tmp_path / "sites")

    (labelled,) = select_labels(site, split="train", arm="manual")
    mask = read_label(masks / "case_00000" / "segmentation.nii.gz")
    assert np.array_equal(read_label(labelled.label_path).data, mask.data)
    assert (labelled.record.reader, labelled.record.origin) == ("kits19", "manual")
    assert read_image(labelled.case.channels["ct"]).grid.matches(mask.grid)


def test_training_cases_are_set_aside_for_validation(masks, tmp_path):
    rows = [f"case_0000{number},0,train" for number in range(3)]

    (site,) = sites_from_labels(masks, table=write_table(tmp_path, *rows), out=tmp_path / "sites")

    # 15 % of three is less than one, and one is the least
    assert [case.split for case in site.cases] == ["train", "train", "validation"]


def test_thinning_keeps_the_field_and_the_places():
    grid = Grid((8, 6, 5), np.diag([1.0, 2.0, 5.0, 1.0]))
    label = np.zeros(grid.shape, dtype=np.uint8)
    label[4:8, 3:6] = 2

    thinned, coarse = thin(label, grid, 4.0)

    # 8 mm and 12 mm are 2 and 3 voxels of 4 mm; 5 mm is coarser already. The first voxel's centre
    # moves from 0 to 1.5 mm and 1 mm, since the field's edge stays at -0.5 and -1 mm
    assert coarse.shape == (2, 3, 5)
    assert coarse.spacing_mm == (4.0, 4.0, 5.0)
    assert coarse.affine[:3, 3].tolist() == [1.5, 1.0, 0.0]
    assert thinned[:, :, 0].tolist() == [[0, 0, 0], [0, 2, 2]]


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ("case_00009,0,train", CaseError, "1 case.* without a mask .*case_00009"),
        ("case_00000,0,holdout", ConfigError, "found the splits .'holdout'.*expected train"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_is_rendered(masks, tmp_path, row, error, message):
    with pytest.raises(error, match=message):
        sites_from_labels(masks, table=write_table(tmp_path, row), out=tmp_path / "sites")
    assert not (tmp_path / "sites").exists()


def test_a_table_without_the_columns_is_refused(masks, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("case,site\na,b\n")

    with pytest.raises(ConfigError, match=r"columns \['case', 'site'\], expected \['case_ids'"):
        sites_from_labels(masks, table=path, out=tmp_path / "sites")


def test_a_real_mask_becomes_an_abdomen(shared_data, tmp_path):
    masks = shared_data("kits19_labels")
    table = write_table(tmp_path, "case_00011,4,train")

    (site,) = sites_from_labels(masks, table=table, out=tmp_path / "sites", spacing_mm=5.0)

    (labelled,) = select_labels(site, split="train", arm="manual")
    image, label = read_image(labelled.case.channels["ct"]).data, read_label(labelled.label_path)
    # 80 slices of 5 mm, 512 voxels of 0.703 mm: 72 of 5 mm
    assert label.grid.shape == (80, 72, 72)
    assert read_grid(labelled.case.channels["ct"]).orientation == "IPL"
    real = read_label(masks / "data" / "case_00011" / "segmentation.nii.gz")
    assert np.count_nonzero(label.data) * label.grid.voxel_mm3 == pytest.approx(
        np.count_nonzero(real.data) * real.grid.voxel_mm3, rel=0.05
    )
    assert image[label.data == 1].mean() > 80 > image[label.data == 2].mean() > 10
    assert -150 < np.median(image[image > -900]) < 60
