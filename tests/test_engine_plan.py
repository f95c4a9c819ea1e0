"""What every site must agree on before it trains."""

from __future__ import annotations

import pytest

from segfed.engine import make_plan, read_plan
from segfed.errors import ConfigError
from segfed.sites import load_task
from tests.engine_samples import sample_plan


def test_a_plan_holds_the_task_and_its_settings():
    plan = make_plan(load_task("brain_tumor"), {"batch_size": 3})

    assert plan.channels == ("t1n", "t1c", "t2w", "t2f")
    assert plan.n_classes == 4  # background, necrotic core, edema, enhancing tumor
    assert plan.batch_size == 3
    assert plan.window_hu is None


def test_a_plan_survives_the_way_through_json():
    plan = make_plan(load_task("kidney_tumor"))

    again = read_plan(plan.model_dump(mode="json"))

    assert again == plan
    assert again.sha256 == plan.sha256


def test_only_what_changes_voxels_makes_cached_cases_stale():
    plan, faster = sample_plan(), sample_plan(learning_rate=0.1)
    coarser = sample_plan(spacing_mm=(2.0, 1.0, 1.0))

    assert faster.sha256 != plan.sha256
    assert faster.preprocessing_sha256 == plan.preprocessing_sha256
    assert coarser.preprocessing_sha256 != plan.preprocessing_sha256


def test_misspelt_overrides_are_all_named():
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*batch_sise.*did you mean 'batch_size'"):
        make_plan(load_task("kidney_tumor"), {"batch_sise": 3, "featurs": [8, 16]})


def test_a_patch_that_shrinks_to_one_voxel_is_refused():
    # 3 levels halve twice: 4 voxels become 1
    with pytest.raises(ConfigError, match="single voxel after 3 levels"):
        sample_plan(patch_voxels=(4, 4, 4), features=(4, 4, 4))


def test_a_plan_without_a_part_is_refused():
    with pytest.raises(ConfigError, match="channels"):
        read_plan({"task": "pebble"})


def test_clicks_bring_inputs_of_their_own():
    # Clicks on the core, clicks beside it, and what it was before them
    assert (sample_plan().n_inputs, sample_plan(click_label="core").n_inputs) == (1, 4)
    assert sample_plan().click_target is None
    assert sample_plan(click_label="core").click_target == ("core", 2)
    assert read_plan(sample_plan(click_label="core").model_dump()).click_label == "core"
    with pytest.raises(ConfigError, match="click_label 'stone' must be one of shell, core"):
        sample_plan(click_label="stone")


def test_a_plan_without_later_settings_is_the_same_bytes_as_before_there_were_any():
    # Its hash is what hospitals approved, and what results are stored under.
    later = {"strides", "click_label", "group_norm", "residual", "autotune"}
    assert not later & sample_plan().model_dump(mode="json").keys()
    assert sample_plan().kernels == ((3, 3, 3), (3, 3, 3))


def test_across_thick_slices_convolutions_begin_where_voxels_are_about_cubes():
    # Voxels of 1 x 1 x 5, then 2 x 2 x 5, then 4 x 4 x 5 mm: only 5 is less than 2 x 4
    plan = sample_plan(
        spacing_mm=(1, 1, 5),
        features=(4, 4, 4, 4),
        strides=((2, 2, 1), (2, 2, 1), (2, 2, 2)),
        patch_voxels=(32, 32, 4),
    )

    assert plan.kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3))
    assert read_plan(plan.model_dump(mode="json")) == plan


def test_one_slice_is_still_looked_at_by_the_coarsest_level():
    plan = sample_plan(spacing_mm=(1, 1, 10), strides=((2, 2, 1),), patch_voxels=(16, 16, 1))

    assert plan.kernels == ((3, 3, 1), (3, 3, 3))
