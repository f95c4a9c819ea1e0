"""A test image that any model has seen is found, and a missing record is no proof."""

from __future__ import annotations

import hashlib
import json

import pytest

from segfed.files import write_json
from segfed.report.build import build_report
from segfed.report.separation import image_separation
from segfed.study.models import UNTRAINED
from segfed.study.records import INPUTS_FILE, read_study, write_study
from tests.report_samples import write_run


def image(number):
    return f"{number:064x}"


@pytest.fixture
def run(tmp_path):
    """Two sites whose models learned from images 10 to 13, were chosen by 20, tested on 0 to 4."""
    run = write_run(
        tmp_path,
        dice=lambda *_: 0.5,
        cases={"a": 2, "b": 2},
        external={"x": 1},
        arms=("manual",),
        regimes=("local", "ensemble", "federated"),
    )
    study = read_study(run)
    tests = [
        case.model_copy(update={"image_sha256": image(number)})
        for number, case in enumerate(study.test_cases)
    ]
    write_study(run, study.model_copy(update={"test_cases": tuple(tests)}))
    for model in study.models:
        if model.regime not in (UNTRAINED, "ensemble"):
            sites = ("a", "b") if model.train_site == "all" else (model.train_site,)
            write_json(run / model.model_id.folder / INPUTS_FILE, {"sites": inputs_of(sites)})
    return run


def inputs_of(sites):
    train = {"a": (10, 11), "b": (12, 13)}
    return {
        site: {
            "train": [[image(number), "label"] for number in train[site]],
            "validation": [[image(20), "label"]],
        }
        for site in sites
    }


def add_input(run, use, number):
    """Let the local model of site b have seen one more image."""
    path = next((run / "local").rglob(f"b/{INPUTS_FILE}"))
    content = json.loads(path.read_text())
    content["sites"]["b"][use].append([image(number), "label"])
    write_json(path, content)


def test_images_are_counted_by_use_over_all_models(run):
    found = image_separation(run, read_study(run))

    assert found["is_shown"]
    assert found["n_images"] == {"train": 4, "validation": 1, "test": 5}
    assert found["in_both"] == []


def test_the_proof_is_the_hash_of_the_sorted_hashes(run):
    found = image_separation(run, read_study(run))
    listed = "[" + ",".join(f'"{image(n)}"' for n in (10, 11, 12, 13)) + "]"

    assert found["sha256_of_hashes"]["train"] == hashlib.sha256(listed.encode()).hexdigest()


@pytest.mark.parametrize("use", ["train", "validation"])
@pytest.mark.parametrize("number", [1, 4])  # of a participating site, and of the external one
def test_a_test_image_that_one_model_saw_is_named_and_warned_of(run, use, number):
    add_input(run, use, number)

    report = build_report(run)

    assert not report["separation"]["is_shown"]
    assert report["separation"]["in_both"] == [image(number)]
    assert any("1 of the test images are among those" in text for text in report["warnings"])


def test_nothing_is_shown_where_a_model_left_no_inputs(run):
    path = next((run / "local").rglob(f"b/{INPUTS_FILE}"))
    path.unlink()

    found = image_separation(run, read_study(run))

    assert not found["is_shown"]
    assert len(found["models_without_inputs"]) == 1
    assert "b" in found["models_without_inputs"][0]
