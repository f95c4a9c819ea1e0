"""Tasks: what a task file may say, and what its author sees when it contradicts itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segfed.errors import CaseError, ConfigError, LabelError
from segfed.sites import PlanSettings, list_tasks, load_task
from tests.sites_samples import TASK_TOML, write_task

HIPPOCAMPUS = Path(__file__).parents[1] / "docs/examples/hippocampus/hippocampus.toml"


def load_changed(folder: Path, wrong: str, right: str) -> None:
    path = folder / "changed.toml"
    assert right in TASK_TOML
    path.write_text(TASK_TOML.replace(right, wrong))
    load_task(path)


@pytest.mark.parametrize("name", [*list_tasks(), HIPPOCAMPUS])
def test_every_task_that_we_ship_loads(name):
    task = load_task(name)

    assert set(task.tolerance_mm) == set(task.structures)
    assert task.remaps


def test_the_structures_and_tolerances_of_kits():
    task = load_task("kidney_tumor")

    assert task.structures == {"kidney_and_mass": (1, 2, 3), "mass": (2, 3), "tumor": (2,)}
    assert task.tolerance_mm["tumor"] == 1.1498198361434828
    assert task.window_hu == (-79.0, 304.0)


def test_four_is_enhancing_tumor_in_one_source_and_a_cavity_in_another():
    # BraTS 2021 wrote 4 for enhancing tumor, which is 3 here; in 2024 a 4 is a resection cavity.
    label = np.array([0, 4])
    where = {"case_id": "x", "path": Path("x.nii.gz")}

    before = load_task("brain_tumor").remap_label(label, source="brats2021", **where)
    after = load_task("brain_tumor_2024").remap_label(label, source="brats2024-gli", **where)

    assert before.tolist() == [0, 3]
    assert after.tolist() == [0, 4]


def test_a_value_that_the_source_does_not_have_is_refused_by_name():
    with pytest.raises(LabelError, match=r"case7.*seg\.nii\.gz.*\[3\].*brats2021.*\[0, 1, 2, 4\]"):
        load_task("brain_tumor").remap_label(
            np.array([0, 1, 3]), source="brats2021", case_id="case7", path=Path("seg.nii.gz")
        )


def test_an_undeclared_source_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'kits21'.*kits19, kits23, task"):
        load_task("kidney_tumor").remap_table("kits21")


def test_the_tasks_own_values_stay_as_they_are():
    assert load_task("kidney_tumor").remap_table("task") == {0: 0, 1: 1, 2: 2, 3: 3}


def test_channels_are_found_by_alias_in_any_case():
    task = load_task("brain_tumor")

    found = [task.channel_named(name) for name in ("t2W", "FLAIR", "T1ce", "t1")]

    assert found == ["t2w", "t2f", "t1c", "t1n"]
    assert task.display_channel == "t1c"
    with pytest.raises(CaseError, match=r"'adc' is no channel.*t1n, t1c"):
        task.channel_named("adc")


def test_defaults_that_follow_from_other_fields(tmp_path):
    task = load_task(write_task(tmp_path))

    assert task.display_channel == "t1"
    assert task.tolerance_mm == {"bean": 2.0, "core": 0.5}


def test_an_unknown_label_value_is_named_with_case_and_file(tmp_path):
    task = load_task(write_task(tmp_path))

    task.check_label_values([0, 1, 2], case_id="case1", path=Path("l.nii.gz"))
    with pytest.raises(LabelError, match=r"case1.*l\.nii\.gz.*\[7\].*1 skin, 2 core"):
        task.check_label_values([0, 1, 7], case_id="case1", path=Path("l.nii.gz"))


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("core = 2", "core = 1", "different values"),
        ("bean = [1, 2]", "bean = [1, 3]", r"structures.bean \(1, 3\)"),
        ("4 = 2", "4 = 9", "remaps.garden"),
        ('t1w = "t1"', 't1w = "t9"', "channel_aliases.t1w = 't9'"),
        ("core = 0.5", "cores = 0.5", "tolerance_mm.cores names no structure"),
        ('modality = "MR"', 'modality = "CT"', "window_hu must be given for CT"),
        ('modality = "MR"', 'modality = "MR"\nwindow_hu = [0, 1]', "left out for MR"),
        ('modality = "MR"', 'modality = "CT"\nwindow_hu = [9, 1]', r"\(lower, upper\)"),
        ('modality = "MR"', 'modality = "MR"\ndisplay_channel = "t9"', "display_channel 't9'"),
        ('channels = ["t1"]', 'channels = ["t1", "t1"]', "different names"),
        ("features = [4, 8]", "feature = [4, 8]", "did you mean 'features'"),
        ('channels = ["t1"]', "channels = []", "channels: Tuple should have at least 1 item"),
        ("[structures]\nbean = [1, 2]\ncore = [2]\n", "", "structures: is missing"),
        ("core = 2", "core = 0", "labels.core.*greater than or equal to 1"),
    ],
)
def test_a_contradiction_is_named(tmp_path, right, wrong, message):
    with pytest.raises(ConfigError, match=message):
        load_changed(tmp_path, wrong, right)


def test_contradictions_are_listed_together(tmp_path):
    path = tmp_path / "changed.toml"
    path.write_text(TASK_TOML.replace("bean = [1, 2]", "bean = [5]").replace("4 = 2", "4 = 9"))

    with pytest.raises(ConfigError, match=r"structures\.bean.*remaps\.garden"):
        load_task(path)


def test_a_patch_that_the_network_cannot_halve_is_refused_with_the_nearest_that_it_can():
    # Three levels halve twice, the stem once more: multiples of 8. 30 is nearest to 32, 41 to 40.
    with pytest.raises(ValueError, match=r"multiples of 8.*halve the patch 3 times.*\(32, 40, 8\)"):
        PlanSettings(
            spacing_mm=(1, 1, 1), patch_voxels=(30, 41, 3), features=(8, 16, 32), stem_stride=2
        )


def test_strides_decide_what_a_patch_is_a_multiple_of():
    # I and J are halved twice, K once: 30 is nearest to 32, 21 to 20, 5 to 4
    settings = {"spacing_mm": (1, 1, 3), "features": (8, 16, 32), "strides": ((2, 2, 1), (2, 2, 2))}

    assert PlanSettings(**settings, patch_voxels=(32, 20, 6)).coarsest_voxel == (4, 4, 2)
    with pytest.raises(ValueError, match=r"multiples of \(4, 4, 2\).*nearest: \(32, 20, 4\)"):
        PlanSettings(**settings, patch_voxels=(30, 21, 5))


def test_a_stride_is_needed_for_every_level_after_the_first():
    with pytest.raises(ValueError, match="found 1 strides for 3 levels; expected 2"):
        PlanSettings(
            spacing_mm=(1, 1, 3),
            patch_voxels=(16, 16, 16),
            features=(8, 16, 32),
            strides=((2, 2, 1),),
        )


def test_a_misspelt_task_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'kidney_tumor'"):
        load_task("kidny_tumor")
    with pytest.raises(ConfigError, match=r"path of a .toml file"):
        load_task("spleen")
    with pytest.raises(ConfigError, match="No task file at"):
        load_task("nowhere.toml")
