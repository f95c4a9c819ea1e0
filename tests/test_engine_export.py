"""What leaves for other programs computes what the network computes."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from segfed.engine import Lineage, Model, build_network, export, export_onnx, export_program
from segfed.errors import ConfigError, WeightsError
from tests.engine_samples import sample_plan

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
LINEAGE = Lineage(
    study="s", arm="manual", seed=0, sites=("north",), data=("synthetic",), train_images={}
)
THICK = {"spacing_mm": (1, 1, 4), "strides": ((2, 2, 1),), "patch_voxels": (16, 16, 6)}
VARIANTS = [{"stem_stride": 2}, THICK, {"residual": True, "group_norm": True}]


def model(**changes) -> Model:
    plan = sample_plan(channels=("t1", "t2"), **changes)
    return Model(plan, build_network(plan, seed=3).eval(), "0" * 64, LINEAGE)


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_pytorch_program_gives_the_networks_logits_for_any_batch(tmp_path, changes):
    trained = model(**changes)
    patches = torch.randn(5, 2, *trained.plan.patch_voxels)

    difference = export_program(trained, tmp_path / "model.pt2")

    loaded = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(loaded(patches), trained.network(patches), rtol=1e-4, atol=1e-5)
    assert difference <= 1e-4


@pytest.mark.skipif(not HAS_ONNX, reason="onnx, onnxscript or onnxruntime is not installed")
@pytest.mark.parametrize("changes", VARIANTS)
def test_an_onnx_file_gives_the_networks_logits_for_any_batch(tmp_path, changes):
    import onnxruntime

    trained = model(**changes)
    patches = torch.randn(5, 2, *trained.plan.patch_voxels)

    difference = export_onnx(trained, tmp_path / "model.onnx")

    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(["logits"], {"image": patches.numpy()})
    torch.testing.assert_close(
        torch.from_numpy(logits), trained.network(patches), rtol=1e-4, atol=1e-4
    )
    assert difference <= 1e-4
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_without_the_packages_the_command_that_installs_them_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ConfigError, match=r"onnxruntime cannot be imported.*segfed\[onnx\]"):
        export_onnx(model(), tmp_path / "model.onnx")


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    other = build_network(sample_plan(channels=("t1", "t2")), seed=9).eval()
    program = export._program
    monkeypatch.setattr(export, "_program", lambda _, patches: program(other, patches))

    with pytest.raises(WeightsError, match=r"differ from the network's by .*at most 0\.0001"):
        export_program(model(), tmp_path / "model.pt2")

    assert not list(tmp_path.iterdir())
