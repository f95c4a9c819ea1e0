"""``segfed model export``: a bundle, and the bare network for other programs if asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from segfed.cli.main import app
from segfed.engine import Lineage, build_network, write_bundle
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
