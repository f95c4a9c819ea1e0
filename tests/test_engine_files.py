"""Which files make a case to predict, and where its label goes."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from segfed.engine import Lineage, build_network, load_bundle, make_plan, write_bundle
from segfed.engine.drift import InputRange
from segfed.engine.files import find_inputs, predict_files
from segfed.errors import CaseError, ConfigError, GeometryError
from segfed.sites import load_task
from segfed.volumes import Grid, Volume, read_label, write_image

SHAPE = (18, 14, 10)
TILTED = np.array(  # left-handed, 10 degrees about the third axis: no grid that a network uses
    [
        [-1.9696, 0.5209, 0.0, 20.0],
        [-0.3473, -2.9544, 0.0, -7.0],
        [0.0, 0.0, 4.0, 3.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
CPU = torch.device("cpu")


def write(path: Path, affine: np.ndarray = TILTED) -> Path:
    values = np.random.default_rng(0).normal(40, 60, (1, *SHAPE)).astype(np.float32)
    write_image(Volume(values, Grid(SHAPE, affine)), path)
    return path


def plan_of(task: str):
    settings = {"spacing_mm": (3.0, 3.0, 4.0), "patch_voxels": (16, 16, 8), "features": (4, 8)}
    return make_plan(load_task(task), settings)


def inputs(paths: list[Path], task: str):
    return find_inputs(paths, plan=plan_of(task), task=load_task(task))


def test_a_folder_of_images_is_a_case_each(tmp_path):
    write(tmp_path / "b.nii.gz")
    write(tmp_path / "a.nrrd")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._a.nii.gz").write_text("left by macOS")

    assert [case.case_id for case in inputs([tmp_path], "kidney_tumor")] == ["a", "b"]


def test_one_name_twice_is_refused_because_it_names_the_label(tmp_path):
    paths = [write(tmp_path / folder / "a.nii.gz") for folder in ("one", "two")]

    with pytest.raises(CaseError, match="holds case 'a', which an earlier path holds too"):
        inputs(paths, "kidney_tumor")


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(CaseError, match="no file or folder"):
        inputs([tmp_path / "absent.nii.gz"], "kidney_tumor")
    with pytest.raises(CaseError, match="holds no image; expected a file ending in"):
        inputs([tmp_path], "kidney_tumor")


def test_channels_go_by_any_of_their_names_and_the_models_order(tmp_path):
    for suffix in ("T1", "t1ce", "t2W", "flair", "seg"):
        write(tmp_path / f"x-1-{suffix}.nii.gz")

    (case,) = inputs([tmp_path], "brain_tumor")

    assert case.case_id == "x-1"
    assert list(case.channels) == ["t1n", "t1c", "t2w", "t2f"]
    assert case.channels["t2f"].name == "x-1-flair.nii.gz"


def test_a_missing_channel_is_named(tmp_path):
    for suffix in ("t1n", "t1c", "t2w"):
        write(tmp_path / f"x-{suffix}.nii.gz")

    with pytest.raises(CaseError, match=r"Case x in .* lacks t2f; found"):
        inputs([tmp_path], "brain_tumor")
    with pytest.raises(CaseError, match="is one file, but the model needs the channels t1n, t1c"):
        inputs([tmp_path / "x-t1n.nii.gz"], "brain_tumor")


@pytest.fixture
def model(tmp_path):
    plan = plan_of("brain_tumor")
    lineage = Lineage(
        study="s", arm="manual", seed=0, sites=("a",), data=("real",), train_images={"a": ()}
    )
    state = build_network(plan, seed=0).state_dict()
    write_bundle(tmp_path / "model", plan=plan, state=state, lineage=lineage, card="# A model")
    return load_bundle(tmp_path / "model")


def test_a_label_lies_on_its_cases_own_grid(tmp_path, model):
    for suffix in ("t1n", "t1c", "t2w", "t2f"):
        write(tmp_path / "case" / f"x-{suffix}.nii.gz")

    predict_files(model, inputs([tmp_path / "case"], "brain_tumor"), tmp_path / "out", device=CPU)

    label = read_label(tmp_path / "out" / "x.nii.gz")
    assert label.grid.matches(Grid(SHAPE, TILTED))


def test_an_image_unlike_those_of_the_training_is_reported_with_its_label(tmp_path, model):
    for suffix in ("t1n", "t1c", "t2w", "t2f"):
        write(tmp_path / "case" / f"x-{suffix}.nii.gz")
    features = {"coarsest spacing (mm)": (0.9, 1.0, 1.1), "finest spacing (mm)": (1.9, 2.0, 2.1)}
    usual = InputRange(n_cases=9, features=features)
    judging = replace(model, lineage=model.lineage.model_copy(update={"inputs": usual}))
    cases, found = inputs([tmp_path / "case"], "brain_tumor"), []

    for one in (model, judging):
        predict_files(
            one,
            cases,
            tmp_path / "out",
            device=CPU,
            on_drift=lambda case, words: found.append((case.case_id, words)),
        )

    # The model that says nothing of its training images is compared with nothing.
    assert found == [("x", ("coarsest spacing (mm) is 4, usually 0.9 to 1.1",))]


def test_a_resumed_run_makes_only_what_is_missing_or_stale(tmp_path, model):
    for case, suffix in itertools.product("xyz", ("t1n", "t1c", "t2w", "t2f")):
        write(tmp_path / "in" / f"{case}-{suffix}.nii.gz")
    cases, out = inputs([tmp_path / "in"], "brain_tumor"), tmp_path / "out"
    predict_files(model, cases, out, device=CPU)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "y.nii.gz").unlink()
    changed = tmp_path / "in" / "z-t1c.nii.gz"
    os.utime(changed, ns=(0, max(before.values()) + 1))
    seen: list[str] = []

    predict_files(
        model,
        cases,
        out,
        device=CPU,
        resume=True,
        on_case=lambda case, _: seen.append(case.case_id),
    )

    after = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert seen == ["x", "y", "z"]
    assert after.keys() == before.keys()
    kept = {name for name in after if after[name] == before[name]}
    assert kept == {"x.nii.gz", "prediction.json"}


def test_labels_of_another_model_are_not_mixed_in(tmp_path, model):
    for suffix in ("t1n", "t1c", "t2w", "t2f"):
        write(tmp_path / "in" / f"x-{suffix}.nii.gz")
    cases, out = inputs([tmp_path / "in"], "brain_tumor"), tmp_path / "out"
    predict_files(model, cases, out, device=CPU)

    with pytest.raises(ConfigError, match=r"made with .*model_sha256.*Predict into another folder"):
        predict_files(replace(model, sha256="0" * 64), cases, out, device=CPU, resume=True)
    with pytest.raises(ConfigError, match=r"mirror_axes': \[0\]"):
        predict_files(model, cases, out, device=CPU, mirror=True, resume=True)


def test_channels_on_different_grids_are_refused_before_anything_is_written(tmp_path, model):
    for suffix in ("t1n", "t1c", "t2w"):
        write(tmp_path / "case" / f"x-{suffix}.nii.gz")
    moved = TILTED.copy()
    moved[0, 3] += 5.0
    write(tmp_path / "case" / "x-t2f.nii.gz", moved)

    with pytest.raises(GeometryError, match="t2f"):
        predict_files(
            model, inputs([tmp_path / "case"], "brain_tumor"), tmp_path / "out", device=CPU
        )

    assert not (tmp_path / "out").exists()


def test_the_label_of_a_real_case_lies_where_both_libraries_see_the_image(
    tmp_path, model, shared_data
):
    folder = shared_data("brats_case")

    predict_files(model, inputs([folder], "brain_tumor"), tmp_path, device=CPU)

    (path,) = tmp_path.glob("*.nii.gz")
    assert path.name == "BraTS-GLI-00000-000.nii.gz"
    image = folder / "BraTS-GLI-00000-000-t1c.nii.gz"
    found, expected = (sitk.ReadImage(str(file)) for file in (path, image))
    for about in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(found, about)() == pytest.approx(getattr(expected, about)())
    label = nib.load(path)
    np.testing.assert_allclose(label.affine, nib.load(image).affine, atol=1e-4)
    np.testing.assert_array_equal(
        np.asarray(label.dataobj), sitk.GetArrayFromImage(found).transpose()
    )
