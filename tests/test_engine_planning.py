"""Plans from fingerprints: equal to those of the pooled data, and nnU-Net's where rules agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from segfed.engine import (
    DataSummary,
    make_plan,
    plan_for,
    plan_table,
    summarise,
    training_bytes,
)
from segfed.engine.planning import strides_for, target_spacing_mm
from segfed.errors import ConfigError
from segfed.sites import fingerprint_site, load_site, load_task
from segfed.sites.imports import DataFormat, import_data_set
from segfed.volumes import read_grid
from tests.fingerprint_samples import CtCase, make_ct_site

HIPPOCAMPUS = Path(__file__).parents[1] / "docs/examples/hippocampus/hippocampus.toml"
KIDNEY = load_task("kidney_tumor")
KITS = DataSummary(
    n_cases=200,
    spacing_mm=(0.78, 0.78, 3.0),
    fine_spacing_mm=(0.7, 0.7, 1.0),
    size_voxels=(512, 512, 105),
    extent_mm=(400, 400, 330),
    window_hu=(-79, 304),
)
# A scanner a site: thin and thick slices, small and large fields of view
NORTH = [CtCase((60, 56, 20), (0.8, 0.8, 3.0), seed=n) for n in range(3)]
SOUTH = [CtCase((40, 44, 40), (1.25, 1.25, 1.5), seed=n) for n in range(3, 7)]
EAST = [CtCase((70, 64, 14), (0.7, 0.7, 5.0), seed=n) for n in range(7, 9)]


def pooled(shapes: Sequence, spacings_mm: Sequence, hu: Sequence | None = None) -> DataSummary:
    """The summary of cases that lie in one place, without any rounding."""
    shapes, spacings_mm = np.array(shapes), np.array(spacings_mm)
    return DataSummary(
        n_cases=len(shapes),
        spacing_mm=tuple(np.median(spacings_mm, axis=0)),
        fine_spacing_mm=tuple(np.percentile(spacings_mm, 10, axis=0)),
        size_voxels=tuple(np.median(shapes, axis=0)),
        extent_mm=tuple(np.median(shapes * spacings_mm, axis=0)),
        window_hu=None if hu is None else tuple(np.percentile(np.concatenate(hu), (0.5, 99.5))),
    )


def test_a_plan_of_sites_that_differ_is_that_of_their_pooled_cases(tmp_path):
    sites = {"north": NORTH, "south": SOUTH, "east": EAST}
    fingerprints = [
        fingerprint_site(make_ct_site(tmp_path, name, cases)) for name, cases in sites.items()
    ]
    cases = [*NORTH, *SOUTH, *EAST]
    # As many voxels of each case: each counts alike
    n_voxels = min(len(case.inside_hu()) for case in cases)
    drawn = [np.random.default_rng(0).choice(case.inside_hu(), 20 * n_voxels) for case in cases]
    expected = plan_for(
        KIDNEY,
        pooled([c.shape for c in cases], [c.spacing_mm for c in cases], drawn),
        gpu_memory_gb=3,
    )

    plan = plan_for(KIDNEY, summarise(KIDNEY, fingerprints), gpu_memory_gb=3)

    assert plan.spacing_mm == pytest.approx(expected.spacing_mm, rel=0.005)
    # Extents are within 2.5 %, which can move a side by one step
    assert plan.patch_voxels == pytest.approx(
        expected.patch_voxels, abs=max(expected.coarsest_voxel)
    )
    assert plan.features == expected.features
    # 1 HU of rounding, and the rest is the draw
    assert plan.window_hu == pytest.approx(expected.window_hu, abs=5)
    # 5 % of the voxels of small images are less than two patches
    assert plan.batch_size == expected.batch_size == 2


def test_a_plan_of_one_pooled_site_is_the_same_to_the_last_bit(tmp_path):
    apart = [
        fingerprint_site(make_ct_site(tmp_path, "north", NORTH)),
        fingerprint_site(make_ct_site(tmp_path, "south", SOUTH)),
    ]
    together = fingerprint_site(make_ct_site(tmp_path, "all", [*NORTH, *SOUTH]))

    assert summarise(KIDNEY, apart) == summarise(KIDNEY, [together])


def test_the_real_hippocampus_gets_the_patch_of_nnunet(tmp_path, shared_data):
    import_data_set(
        shared_data("hippocampus"),
        tmp_path,
        data_format=DataFormat.MSD,
        task=HIPPOCAMPUS,
        source="msd",
        sites={"a": 50, "b": 30, "c": 20},
    )
    sites = [load_site(tmp_path / name) for name in "abc"]
    grids = [read_grid(case.channels["t1"]) for site in sites for case in site.split("train")]
    task = load_task(HIPPOCAMPUS)
    expected = plan_for(
        task, pooled([g.shape for g in grids], [g.spacing_mm for g in grids]), gpu_memory_gb=8
    )

    plan = plan_for(task, summarise(task, [fingerprint_site(s) for s in sites]), gpu_memory_gb=8)

    assert plan.spacing_mm == (1.0, 1.0, 1.0)
    assert plan.patch_voxels == (40, 56, 40)
    assert plan.patch_voxels == expected.patch_voxels
    assert plan.features == expected.features
    # Three extents within 2.5 % leave a volume, and so the share of the batch, within 8 %
    assert plan.batch_size == pytest.approx(expected.batch_size, abs=1)


def test_thick_slices_are_planned_at_their_finer_tenth():
    # 3.0 > 3 x 0.78, and 105 slices are less than a third of 512
    assert target_spacing_mm(KITS) == (0.78, 0.78, 1.0)


def test_slices_are_never_planned_finer_than_the_other_axes():
    assert target_spacing_mm(dataclasses.replace(KITS, fine_spacing_mm=(0.7, 0.7, 0.5))) == (
        0.78,
        0.78,
        0.78,
    )


@pytest.mark.parametrize(
    "change", [{"spacing_mm": (0.78, 0.78, 2.3)}, {"size_voxels": (512, 512, 180)}]
)
def test_a_spacing_that_is_not_that_thick_is_the_median(change):
    # 2.3 < 3 x 0.78 = 2.34; 3 x 180 > 512
    summary = dataclasses.replace(KITS, **change)

    assert target_spacing_mm(summary) == summary.spacing_mm


def test_a_larger_gpu_gets_a_larger_patch_and_both_fit():
    plans = {gb: plan_for(KIDNEY, KITS, gpu_memory_gb=gb) for gb in (6, 24)}

    assert np.prod(plans[24].patch_voxels) > 2 * np.prod(plans[6].patch_voxels)
    for gb, plan in plans.items():
        assert 0.6 * gb * 1e9 < training_bytes(plan) <= gb * 1e9


def test_memory_that_is_left_goes_to_the_batch_until_it_shows_5_percent_of_the_data():
    # 5 % of 2000 images of 64³ are 100 of the patches, which are as large as an image
    summary = DataSummary(2000, (1, 1, 1), (1, 1, 1), (64,) * 3, (64,) * 3, (-79, 304))
    few = dataclasses.replace(summary, n_cases=60)

    plan = plan_for(KIDNEY, summary, gpu_memory_gb=8)

    assert plan.patch_voxels == (64, 64, 64)
    larger = make_plan(KIDNEY, plan_table(plan) | {"batch_size": plan.batch_size + 1})
    assert training_bytes(plan) <= 8e9 < training_bytes(larger)
    assert plan_for(KIDNEY, few, gpu_memory_gb=8).batch_size == 3  # 5 % of 60
    assert plan_for(KIDNEY, summary, gpu_memory_gb=200).batch_size == 100


def test_one_thick_slice_is_planned_for():
    summary = DataSummary(20, (1, 1, 10), (1, 1, 10), (256, 256, 1), (256, 256, 10), (-79, 304))

    plan = plan_for(KIDNEY, summary, gpu_memory_gb=8)

    assert plan.spacing_mm == (1, 1, 10)
    assert plan.patch_voxels == (256, 256, 1)
    assert {stride[2] for stride in plan.strides} == {1}


def test_thick_slices_are_halved_once_the_other_axes_have_caught_up():
    # 0.7 0.7 5.0 mm, 192 192 24 voxels: 5 is not below 2 x 0.7, nor 2 x 1.4
    # 2.8 2.8 5.0 mm,  48  48 24: below 2 x 2.8, all axes
    # 5.6 5.6 10.0 mm, 24  24 12: all axes
    # 11.2 11.2 20 mm, 12  12  6: 3 voxels would be left along the last axis
    assert strides_for((0.7, 0.7, 5.0), (192, 192, 24)) == [
        (2, 2, 1),
        (2, 2, 1),
        (2, 2, 2),
        (2, 2, 2),
        (2, 2, 1),
    ]


def test_a_single_axis_is_halved_only_while_it_is_long():
    assert strides_for((1, 1, 1), (24, 7, 7)) == [(2, 1, 1), (2, 1, 1)]  # 24, 12, 6
    assert strides_for((1, 1, 1), (22, 7, 7)) == [(2, 1, 1)]  # 11 is less than 12
    assert strides_for((1, 1, 1), (5, 5, 5)) == [(2, 2, 2)], "a UNet has two levels at least"


def test_a_gpu_that_is_too_small_is_refused_with_what_is_needed():
    with pytest.raises(ConfigError, match=r"with 1 GB.*2 patches of .* take [\d.]+ GB"):
        plan_for(KIDNEY, KITS, gpu_memory_gb=1)


def test_without_measured_intensities_the_window_is_the_tasks():
    plan = plan_for(KIDNEY, dataclasses.replace(KITS, window_hu=None), gpu_memory_gb=8)

    assert plan.window_hu == KIDNEY.window_hu


def test_constant_intensities_are_refused():
    with pytest.raises(ConfigError, match=r"hold 40 HU nearly everywhere"):
        plan_for(KIDNEY, dataclasses.replace(KITS, window_hu=(40, 40)), gpu_memory_gb=8)


def test_the_table_is_one_that_a_study_takes():
    plan = plan_for(KIDNEY, dataclasses.replace(KITS, window_hu=None), gpu_memory_gb=8)

    assert make_plan(KIDNEY, plan_table(plan)) == plan


def test_fingerprints_of_another_task_or_twice_of_a_site_are_refused(tmp_path):
    fingerprint = fingerprint_site(make_ct_site(tmp_path, "north", NORTH[:1]))

    with pytest.raises(ConfigError, match="north, north; expected one of each site"):
        summarise(KIDNEY, [fingerprint, fingerprint])
    with pytest.raises(ConfigError, match="of no site"):
        summarise(KIDNEY, [])
    with pytest.raises(ConfigError, match=r"site north is of another task.*modality 'CT' instead"):
        summarise(load_task("brain_tumor"), [fingerprint])
