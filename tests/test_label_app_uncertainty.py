"""How certain a model is about the cases that wait."""

# ruff: noqa: ARG001, ARG005 -- the signatures are those of what is replaced

from __future__ import annotations

import math

import pytest
import torch

from label_app.uncertainty import Uncertainties, mean_entropy
from segfed.errors import CaseError
from tests.model_samples import publish_untrained
from tests.sites_samples import make_site


def scores(foreground: float) -> torch.Tensor:
    """One voxel with a chance of foreground in the middle of certain background, two classes."""
    grid = torch.zeros(2, 7, 7, 7)
    grid[0] = 1
    grid[:, 3, 3, 3] = torch.tensor([1 - foreground, foreground])
    return grid


def test_the_entropy_is_averaged_over_the_neighbourhood_of_what_is_predicted():
    # Only the voxel itself is uncertain: entropy H in bits, over a neighbourhood of 5x5x5 voxels.
    bits = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))

    assert mean_entropy(scores(0.75)) == pytest.approx(bits / 125, rel=1e-6)
    assert mean_entropy(scores(1.0)) == 0


def test_a_model_that_finds_nothing_is_least_certain():
    assert mean_entropy(scores(0.2)) == 1
    three_alike = torch.full((3, 4, 4, 4), 1 / 3)
    three_alike[1] += 1e-6
    assert mean_entropy(three_alike) == pytest.approx(1, abs=1e-4)


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path, splits=("train", "test", "train", "validation"))


@pytest.fixture
def asked():
    return []


@pytest.fixture
def uncertainties(site, asked):
    def job(case, *, model_folder):
        asked.append((case.case_id, model_folder.name))
        return {"case0": 0.25, "case2": 0.5}[case.case_id]

    return Uncertainties(site.folder, job=job, ask_if_idle=lambda job: job())


def compute_all(uncertainties):
    while uncertainties.compute_next() is not None:
        pass


def test_only_training_cases_are_scored_and_each_once(site, uncertainties, asked, tmp_path):
    assert uncertainties.compute_next() is None, "there is no model"
    model = publish_untrained(site, tmp_path)[:12]

    compute_all(uncertainties)
    compute_all(uncertainties)

    assert asked == [("case0", model), ("case2", model)]
    assert uncertainties.known() == {"case0": 0.25, "case2": 0.5}


def test_another_model_begins_anew_and_the_first_ones_scores_stay(
    site, uncertainties, asked, tmp_path
):
    for seed in (0, 1, 0):
        publish_untrained(site, tmp_path, seed=seed)
        if seed:
            assert uncertainties.known() == {}
        compute_all(uncertainties)

    assert len(asked) == 4
    assert uncertainties.known() == {"case0": 0.25, "case2": 0.5}


def test_a_case_that_cannot_be_scored_holds_up_no_other(site, tmp_path):
    def job(case, *, model_folder):
        if case.case_id == "case0":
            raise CaseError("case0 is among the training images")
        return 0.5

    uncertainties = Uncertainties(site.folder, job=job, ask_if_idle=lambda job: job())
    publish_untrained(site, tmp_path)

    compute_all(uncertainties)

    assert uncertainties.known() == {"case2": 0.5}


def test_a_busy_worker_is_asked_again(site, tmp_path):
    answers = iter([None, 0.5])
    uncertainties = Uncertainties(
        site.folder, job=lambda case, *, model_folder: 0.0, ask_if_idle=lambda job: next(answers)
    )
    publish_untrained(site, tmp_path)

    assert [uncertainties.compute_next() for _ in range(2)] == ["case0", "case0"]
    assert uncertainties.known() == {"case0": 0.5}
