"""Bundles: what is published is what comes back, and MONAI can run it."""

from __future__ import annotations

import json

import monai.bundle
import numpy as np
import pytest
import torch

from segfed.engine import Lineage, build_network, load_bundle, predict_label, write_bundle
from segfed.errors import ConfigError, WeightsError
from segfed.volumes import Grid, Volume, read_label, write_image
from tests.engine_samples import sample_arrays, sample_plan

PLAN = sample_plan()
LINEAGE = Lineage(
    study="pebbles",
    arm="manual",
    seed=0,
    round=3,
    sites=("north",),
    data=("synthetic",),
    train_images={"north": ("a" * 64, "b" * 64)},
)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "models" / "pebble"
    state = build_network(PLAN, seed=4).state_dict()
    write_bundle(folder, plan=PLAN, state=state, lineage=LINEAGE, card="# Pebbles")
    return folder


def test_what_was_written_is_loaded(folder):
    model = load_bundle(folder)

    assert model.plan == PLAN
    assert model.lineage == LINEAGE
    assert (folder / "model_card.md").read_text() == "# Pebbles"
    expected = build_network(PLAN, seed=4).state_dict()
    assert all(
        torch.equal(expected[name], value) for name, value in model.network.state_dict().items()
    )


@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")  # trust it: we wrote it
def test_monai_runs_it_and_gets_the_same_label(folder, tmp_path):
    data, _ = sample_arrays(0)
    image = Volume(data, Grid(data.shape[1:], np.diag([-1.0, 1.5, 2.0, 1.0])))
    write_image(image, tmp_path / "t1.nii.gz")

    monai.bundle.run(
        config_file=str(folder / "configs" / "inference.json"),
        meta_file=str(folder / "configs" / "metadata.json"),
        bundle_root=str(folder),
        image={"t1": str(tmp_path / "t1.nii.gz")},
        output=str(tmp_path / "label.nii.gz"),
        device="$torch.device('cpu')",
    )

    model = load_bundle(folder)
    expected = predict_label([model.network], model.plan, image, device=torch.device("cpu"))
    assert np.array_equal(read_label(tmp_path / "label.nii.gz").data, expected.data)
    assert len(np.unique(expected.data)) > 1, "random weights draw more than background"


def test_the_metadata_say_what_goes_in_and_out(folder):
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())

    form = metadata["network_data_format"]
    assert form["inputs"]["image"]["channel_def"] == {"0": "t1"}
    assert form["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "shell", "2": "core"}
    for key in ("version", "monai_version", "pytorch_version", "numpy_version", "task"):
        assert metadata[key]


def test_an_existing_bundle_is_replaced_as_a_whole(folder):
    (folder / "stray.txt").write_text("left over")

    sha256 = write_bundle(
        folder,
        plan=PLAN,
        state=build_network(PLAN, seed=5).state_dict(),
        lineage=LINEAGE,
        card="# Newer",
    )

    assert load_bundle(folder).sha256 == sha256
    assert not (folder / "stray.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["pebble"]


def test_weights_of_another_network_are_not_published(folder):
    before = load_bundle(folder).sha256

    with pytest.raises(WeightsError, match="do not fit"):
        write_bundle(
            folder,
            plan=PLAN,
            state=build_network(sample_plan(features=(4, 8)), seed=0).state_dict(),
            lineage=LINEAGE,
            card="",
        )

    assert load_bundle(folder).sha256 == before


def test_exchanged_weights_are_noticed(folder, tmp_path):
    other = tmp_path / "other"
    state = build_network(PLAN, seed=9).state_dict()
    write_bundle(other, plan=PLAN, state=state, lineage=LINEAGE, card="")
    (other / "models" / "model.safetensors").rename(folder / "models" / "model.safetensors")

    with pytest.raises(WeightsError, match=r"has the hash .* was written with"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "part", ["configs/metadata.json", "lineage.json", "models/model.safetensors"]
)
def test_a_missing_part_is_named(folder, part):
    (folder / part).unlink()

    with pytest.raises(WeightsError, match=part.split("/")[-1]):
        load_bundle(folder)


def test_a_lineage_with_an_unknown_key_is_refused(folder):
    path = folder / "lineage.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sead": 3}))

    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        load_bundle(folder)


def test_lineage_tells_whether_a_model_saw_an_image():
    assert LINEAGE.saw("b" * 64)
    assert not LINEAGE.saw("c" * 64)
