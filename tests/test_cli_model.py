"""``segfed model export`` and ``card``: a bundle, the bare network, and what is known of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from segfed.cli.main import app
from segfed.engine import Lineage, build_network, write_bundle, write_weights
from segfed.engine.bundle import WEIGHTS
from segfed.errors import ConfigError, WeightsError
from segfed.files import sha256_file
from segfed.sites import SiteSettings, create_site
from tests.engine_samples import sample_plan

LINEAGE = Lineage(
    study="s", arm="manual", seed=0, sites=("north",), data=("synthetic",), train_images={}
)


@pytest.fixture
def finished_run(monkeypatch) -> Path:
    """A run folder whose global model has random weights."""
    plan = sample_plan()

    def export_model(_run: Path, _model: object, out: Path) -> str:
        state = build_network(plan, seed=0).state_dict()
        return write_bundle(out, plan=plan, state=state, lineage=LINEAGE, card="# A model")

    monkeypatch.setattr("segfed.study.shared_model", lambda _: None)
    monkeypatch.setattr("segfed.study.export_model", export_model)
    return Path("run")


def test_the_bare_network_is_added_on_request(finished_run, tmp_path):
    out = tmp_path / "model"

    result = CliRunner().invoke(
        app, ["model", "export", str(finished_run), "--out", str(out), "--pt2"]
    )

    assert result.exit_code == 0, result.output
    assert "logits within" in result.output
    loaded = torch.export.load(out / "models" / "model.pt2").module()
    assert loaded(torch.zeros(1, 1, 16, 24, 16)).shape == (1, 3, 16, 24, 16)
    assert not (out / "models" / "model.onnx").exists()


@pytest.fixture
def bundle(tmp_path) -> Path:
    plan = sample_plan()
    state = build_network(plan, seed=0).state_dict()
    card = "# A model\n\n[not] markup"
    write_bundle(tmp_path / "bundle", plan=plan, state=state, lineage=LINEAGE, card=card)
    return tmp_path / "bundle"


def test_the_card_of_a_bundle_is_printed_as_it_was_written(bundle):
    result = CliRunner().invoke(app, ["model", "card", str(bundle)])

    assert result.exit_code == 0, result.output
    assert result.output.strip() == "# A model\n\n[not] markup"


def test_a_program_gets_the_hash_and_the_lineage_with_the_card(bundle):
    found = json.loads(CliRunner().invoke(app, ["model", "card", str(bundle), "--json"]).output)

    assert found["sha256"] == sha256_file(bundle / WEIGHTS)
    assert found["lineage"]["sites"] == ["north"]


def test_the_card_of_other_weights_is_not_shown(bundle):
    other = build_network(sample_plan(), seed=1).state_dict()
    write_weights(bundle / WEIGHTS, other)

    with pytest.raises(WeightsError, match="was written with"):
        CliRunner().invoke(app, ["model", "card", str(bundle)], catch_exceptions=False)


def test_a_site_without_a_model_has_no_card(tmp_path):
    create_site(tmp_path / "north", SiteSettings(name="north", task="kidney_tumor"))

    with pytest.raises(ConfigError, match="has no published model"):
        CliRunner().invoke(app, ["model", "card", str(tmp_path / "north")], catch_exceptions=False)
