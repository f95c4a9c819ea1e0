"""What is noted of the images that a model learned from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from segfed.study.input_range import write_input_ranges
from segfed.study.records import RANGE_FILE
from segfed.study.runner import run_study
from tests.study_samples import make_settings, make_sites, pretend_federation


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished study, as far as notes on its models' images need to know it."""
    root = tmp_path_factory.mktemp("range")
    make_sites(root)
    settings = make_settings(root, regimes=("local", "federated"), external_sites=())
    run_study(settings, out=root / "run", launch_federation=pretend_federation)
    return root / "run"


def test_every_trained_model_has_a_note_and_the_untrained_one_has_none(run):
    found = {path.parent.relative_to(run).parts[0] for path in run.rglob(RANGE_FILE)}

    assert found == {"local", "federated"}


def test_a_model_with_differential_privacy_tells_nothing_without_noise(tmp_path):
    privacy = SimpleNamespace(differential_privacy=object())
    study = SimpleNamespace(settings=SimpleNamespace(privacy=privacy), out=tmp_path)
    model = SimpleNamespace(regime="federated", model_id=SimpleNamespace(folder="federated"))

    write_input_ranges(study, [model])  # type: ignore[arg-type]

    assert not list(tmp_path.rglob(RANGE_FILE))
