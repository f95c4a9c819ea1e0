"""A model that learned its patients by heart gives them away; one that never saw them does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segfed.attacks import Candidate, attack_advantage, case_fit
from segfed.engine import LocalTrainer, PreparedCase, build_network
from segfed.engine.cache import label_positions
from tests.engine_samples import sample_cases, sample_plan

CPU = torch.device("cpu")
SHAPE = (16, 16, 16)
PLAN = sample_plan(patch_voxels=SHAPE, features=[8, 16])


def unlearnable(seed):
    """A case whose label has nothing to do with its image: it can only be learned by heart."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(1, *SHAPE)).astype(np.float32)
    label = np.zeros(SHAPE, dtype=np.uint8)
    i, j, k = rng.integers(2, 8, size=3)
    label[i : i + 6, j : j + 6, k : k + 6] = 1
    label[i + 2 : i + 4, j + 2 : j + 4, k + 2 : k + 4] = 2
    return PreparedCase(f"case{seed}", str(seed), image, label, label_positions(label))


@pytest.fixture(scope="module")
def overfitted():
    """A network that was trained on the first six cases again and again."""
    cases = [unlearnable(seed) for seed in range(6)]
    network = build_network(PLAN, seed=0)
    LocalTrainer(PLAN, cases, network=network, seed=0, total_steps=120, device=CPU).run(120)
    return network


def advantage(network, members, others):
    """By the loss."""
    found = [
        Candidate("a", -case_fit([network], PLAN, unlearnable(seed), device=CPU).loss, is_member)
        for seeds, is_member in ((members, True), (others, False))
        for seed in seeds
    ]
    return attack_advantage(found, seed=0, n_bootstrap=200)


def test_an_overfitted_model_gives_its_patients_away(overfitted):
    found = advantage(overfitted, range(6), range(100, 112))

    assert found.auc_low > 0.5
    assert found.advantage_low > 0


def test_patients_that_the_model_never_saw_are_not_told_apart(overfitted):
    found = advantage(overfitted, range(200, 206), range(100, 112))

    assert found.auc_low < 0.5 < found.auc_high
    assert found.advantage_low <= 0 <= found.advantage_high


def test_a_case_is_fitted_by_loss_and_dice():
    case = sample_cases(1)[0]
    plan = sample_plan()

    found = case_fit([build_network(plan, seed=0)], plan, case, device=CPU)

    assert math.isfinite(found.loss)
    assert found.loss > 0
    assert 0 <= found.dice <= 1
