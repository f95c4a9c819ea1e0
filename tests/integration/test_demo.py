"""The whole loop at a reduced size: real label servers, a real federation, a real report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from segfed.cli.label_server import label_server
from segfed.cli.launch import launch_federation
from segfed.errors import ConfigError
from segfed.phantom import CaseCounts
from segfed.phantom.annotator import ASSISTED_READER, AnnotatedCase
from segfed.report import write_report
from segfed.sites import Site, load_site
from segfed.study import Budget, StudyEvent, current_model
from segfed.study.demo import DemoScale, clear, run_demo

SCALE = DemoScale(
    counts=CaseCounts(warmup=2, train=2, validation=1, test=2),
    spacing_mm=9.0,
    plan={
        "spacing_mm": (9.0, 9.0, 9.0),
        "patch_voxels": (32, 16, 16),
        "features": (8, 16),
        "batch_size": 1,
    },
    warmup=Budget(rounds=1, steps_per_round=2),
    study=Budget(rounds=2, steps_per_round=2),
)


@dataclass
class Watcher:
    """Remembers what it was told."""

    stages: list[str] = field(default_factory=list)
    labels: list[AnnotatedCase] = field(default_factory=list)

    def on_stage(self, title: str) -> None:
        self.stages.append(title)

    def on_case(self, done: int, total: int) -> None:
        """Not of interest here."""

    def on_event(self, event: StudyEvent) -> None:
        """Not of interest here."""

    def on_label(self, site: Site, case: AnnotatedCase) -> None:
        assert case.case_id.startswith(site.name)
        self.labels.append(case)


def demo(out: Path, task: str) -> tuple[Path, Watcher]:
    watcher = Watcher()
    run = run_demo(
        out,
        task=task,
        seed=0,
        launch_federation=launch_federation,
        start_server=label_server,
        watcher=watcher,
        scale=SCALE,
    )
    return run, watcher


@pytest.mark.parametrize("task", ["kidney_tumor", "brain_tumor"])
def test_the_loop_ends_in_one_report_of_both_arms(tmp_path, task):
    run, watcher = demo(tmp_path / "demo", task)
    write_report(run)

    reports = list(tmp_path.rglob("report.json")) + list(tmp_path.rglob("report.html"))
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert sorted(path.name for path in reports) == ["report.html", "report.json"]
    assert len(watcher.stages) == 4
    assert set(report["dice"]) == {"untrained", "local", "federated"}
    assert set(report["dice"]["federated"]) == {"manual", "assisted"}
    assert report["data"]["kinds"] == ["synthetic"]
    assert "http" not in (run / "report.html").read_text(encoding="utf-8").split("<body")[0]

    for name in ("hospital-a", "hospital-b", "hospital-c"):
        check_site_after(load_site(tmp_path / "demo" / "sites" / name))


def check_site_after(site: Site) -> None:
    """Every training case has both labels, and no proposal came from a model that saw its case."""
    assert current_model(site) is not None
    lineage = json.loads((current_model(site) / "lineage.json").read_text(encoding="utf-8"))
    seen = {image for images in lineage["train_images"].values() for image in images}
    for case in site.split("train"):
        manual = site.ledger().current(case.case_id, "manual")
        assisted = site.ledger().current(case.case_id, "assisted", reader=ASSISTED_READER)
        assert manual is not None
        assert manual.origin == "manual"
        assert assisted is not None
        assert assisted.arm == "assisted"
        assert case.image_sha256 not in seen
    site.ledger().verify()


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")

    with pytest.raises(ConfigError, match="no demo made"):
        demo(tmp_path, "kidney_tumor")

    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


def test_a_folder_whose_clearing_was_cut_short_can_be_used_again(tmp_path):
    out = tmp_path / "demo"
    (out / "sites" / "hospital-a").mkdir(parents=True)
    (out / "demo.json").write_text("{}")

    clear(out, task="kidney_tumor", seed=7)

    assert [path.name for path in out.iterdir()] == ["demo.json"]
    assert json.loads((out / "demo.json").read_text()) == {"task": "kidney_tumor", "seed": 7}
