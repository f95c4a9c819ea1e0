"""From a finished study to the model that a site serves."""

from __future__ import annotations

import shutil

import pytest

from segfed.engine import load_bundle
from segfed.engine.bundle import LINEAGE, WEIGHTS
from segfed.errors import ConfigError
from segfed.sites import load_site
from segfed.study.models import ModelId
from segfed.study.registry import (
    current_model,
    export_model,
    model_fault,
    publish,
    publish_run,
    published_models,
)
from segfed.study.runner import run_study
from tests.study_samples import make_settings, make_sites, pretend_federation

LOCAL_B = ModelId("local", "manual", 0, "b")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("registry")
    make_sites(root)
    settings = make_settings(root, regimes=("local", "federated"), external_sites=())
    run_study(settings, out=root / "run", launch_federation=pretend_federation)
    return root


def test_before_the_first_model_a_site_serves_none(root):
    assert current_model(load_site(root / "x")) is None
    assert published_models(load_site(root / "x")) == ()


def test_a_published_model_that_was_damaged_is_named_by_its_place_in_the_site(root, tmp_path):
    site = load_site(root / "x")
    assert model_fault(site) is None, "there is none yet"
    export_model(root / "run", LOCAL_B, tmp_path / "bundle")
    folder = publish(tmp_path / "bundle", site)
    assert model_fault(site) is None

    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    damaged = model_fault(site)
    shutil.rmtree(folder)
    missing = model_fault(site)
    shutil.rmtree(site.folder / "models")

    assert damaged.startswith(f"{weights.relative_to(site.folder)} ")
    assert f"{folder.relative_to(site.folder)} is not there" in missing
    assert str(root) not in damaged + missing


def test_the_lineage_lists_every_image_that_a_model_learned_from(root, tmp_path):
    export_model(root / "run", LOCAL_B, tmp_path / "bundle")

    lineage = load_bundle(tmp_path / "bundle").lineage

    b = load_site(root / "b")
    learned = [case for case in b.cases if case.split in ("train", "validation")]
    assert set(lineage.train_images) == {"b"}
    assert set(lineage.train_images["b"]) == {case.image_sha256 for case in learned}
    assert not any(lineage.saw(case.image_sha256) for case in b.split("test"))


def test_the_lineage_says_what_the_training_images_look_like(root, tmp_path):
    for number, model in enumerate((LOCAL_B, ModelId("federated", "manual", 0, "all"))):
        export_model(root / "run", model, tmp_path / str(number))
    local, federated = (load_bundle(tmp_path / n).lineage.inputs for n in ("0", "1"))

    assert (local.n_cases, federated.n_cases) == (2, 4)
    # The samples' voxels are 4 x 5 x 6 mm.
    assert local.features["coarsest spacing (mm)"] == (6, 6, 6)
    assert local.features["finest spacing (mm)"] == (4, 4, 4)


def test_publishing_makes_a_model_the_current_one_and_keeps_the_earlier(root, tmp_path):
    site = load_site(root / "a")
    export_model(root / "run", LOCAL_B, tmp_path / "bundle")

    publish(tmp_path / "bundle", site)
    federated = publish_run(root / "run", site)

    assert current_model(site) == federated
    assert load_bundle(federated).lineage.round == 1
    assert len(published_models(site)) == 2


def test_a_corrected_lineage_is_published_while_the_server_reads_the_folder(root, tmp_path):
    site = load_site(root / "a")
    export_model(root / "run", LOCAL_B, tmp_path / "bundle")
    folder = publish(tmp_path / "bundle", site)
    path = tmp_path / "bundle" / LINEAGE
    path.write_text(path.read_text().replace('"manual"', '"mixed"'))
    before = folder.stat().st_ino

    assert publish(tmp_path / "bundle", site) == folder

    assert folder.stat().st_ino == before, "the folder that `current` names was never away"
    assert load_bundle(folder).lineage.arm == "mixed"
    assert not list(folder.parent.glob(".partial-*"))


def test_a_model_that_the_run_lacks_is_refused_with_those_it_has(root, tmp_path):
    with pytest.raises(ConfigError, match=r"no model 'pooled manual, seed 0'.*local b manual"):
        export_model(root / "run", ModelId("pooled", "manual", 0, "all"), tmp_path / "bundle")


def test_a_current_model_that_is_gone_is_named(root):
    site = load_site(root / "b")
    folder = publish_run(root / "run", site, model=LOCAL_B)
    folder.rename(folder.with_name("elsewhere"))

    with pytest.raises(ConfigError, match="Publish a model to this site again"):
        current_model(site)


def test_the_model_card_names_structures_data_and_weights(root, tmp_path):
    sha256 = export_model(root / "run", LOCAL_B, tmp_path / "bundle")

    card = (tmp_path / "bundle" / "model_card.md").read_text()

    assert sha256 in card
    assert "kidney_and_mass, mass, tumor" in card
    assert "| b | synthetic | 2 | 1 |" in card
