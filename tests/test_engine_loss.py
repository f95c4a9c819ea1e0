"""The loss, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from segfed.engine.loss import segmentation_loss


def uniform_logits(n_classes: int) -> torch.Tensor:
    """The same probability for every class, on 2 x 1 x 4 voxels of one sample."""
    return torch.zeros(1, n_classes, 2, 1, 4)


def label_with(values: list[int]) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 2, 1, 4)


def test_an_undecided_network():
    # Cross-entropy of 1/4 is log 4. Structure {1}: 2 of 8 voxels, overlap 2 x 1/4, predicted
    # 8 x 1/4 = 2: Dice 2 x 0.5 / (2 + 2) = 1/4. Structure {1, 2}: 4 voxels, overlap 4 x 1/2,
    # predicted 4: Dice 4 / 8 = 1/2. Mean 3/8.
    label = label_with([1, 1, 2, 2, 0, 0, 0, 3])

    loss = segmentation_loss(uniform_logits(4), label, structures=[(1,), (1, 2)])

    assert loss.item() == pytest.approx(math.log(4) + 1 - 3 / 8, rel=1e-5)


def test_a_perfect_network_loses_nothing():
    label = label_with([1, 1, 2, 2, 0, 0, 0, 3])
    logits = 50 * torch.nn.functional.one_hot(label, 4).movedim(-1, 1).float()

    loss = segmentation_loss(logits, label, structures=[(1,), (2, 3)])

    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_an_absent_structure_leaves_the_others_alone():
    # Only structure {1} has a Dice, 1/4 as above; {2} is in no voxel.
    label = label_with([1, 1, 0, 0, 0, 0, 0, 0])

    loss = segmentation_loss(uniform_logits(4), label, structures=[(1,), (2,)])

    assert loss.item() == pytest.approx(math.log(4) + 1 - 1 / 4, rel=1e-5)


def test_a_batch_of_background_only_teaches_by_cross_entropy():
    logits = uniform_logits(3).requires_grad_()

    loss = segmentation_loss(logits, label_with([0] * 8), structures=[(1,), (2,)])
    loss.backward()

    assert loss.item() == pytest.approx(math.log(3), rel=1e-5)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
