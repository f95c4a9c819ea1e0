"""How well a model fits one case: what an attack on membership looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from segfed.engine import Plan, PreparedCase, predict_scores
from segfed.engine.loss import segmentation_loss
from segfed.evaluation import dice, structure_mask
from segfed.evaluation.statistics import finite_mean

# Below it a probability is rounding: its logarithm would decide alone.
_SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class CaseFit:
    """How a model does on one case."""

    loss: float
    """Cross-entropy plus soft Dice loss over the whole case, as in training."""

    dice: float
    """Mean over the structures; NaN where none is there and none was found."""


def case_fit(
    networks: Sequence[nn.Module], plan: Plan, case: PreparedCase, *, device: torch.device
) -> CaseFit:
    """Loss and Dice of a model on a preprocessed case with its label.

    Whoever attacks has image and label: the question is only whether the model learned from them.

    Args:
        networks: One network, or several whose probabilities are averaged.
        plan: The plan that they were trained by.
        case: The case, on its resampled grid.
        device: Where to compute.
    """
    image = torch.from_numpy(np.array(case.image))
    scores = predict_scores(networks, plan, image, device=device)
    logits = scores.clamp(min=_SMALLEST_PROBABILITY).log()[None]
    label = torch.from_numpy(np.array(case.label)).long()[None]
    loss = segmentation_loss(logits, label, structures=plan.structures.values())
    predicted = scores.argmax(dim=0).numpy()
    values = [
        dice(structure_mask(case.label, kept), structure_mask(predicted, kept))
        for kept in plan.structures.values()
    ]
    return CaseFit(loss=float(loss), dice=finite_mean(values))
