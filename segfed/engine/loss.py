"""What training minimises: cross-entropy over label values plus soft Dice over structures."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch.nn.functional import cross_entropy


def segmentation_loss(
    logits: torch.Tensor, label: torch.Tensor, *, structures: Collection[Sequence[int]]
) -> torch.Tensor:
    """Cross-entropy plus one minus the mean soft Dice of the structures.

    The classes exclude each other; a structure's probability is the sum of its classes'
    probabilities, so that overlapping structures (kidney with its mass, whole tumor) are
    optimised as they are scored. Dice is taken over the whole batch, which tells small
    structures from noise better than a mean of samples. A structure that is absent from the
    batch has no Dice: there cross-entropy alone keeps the network from inventing it.

    Args:
        logits: Shape (B, K, I, J, K); the class index is the label value.
        label: Shape (B, I, J, K), int64.
        structures: Label values of each structure.
    """
    logits = logits.float()
    loss = cross_entropy(logits, label)
    probability = logits.softmax(dim=1)
    dice = []
    for values in structures:
        predicted = probability[:, list(values)].sum(dim=1)
        reference = torch.isin(label, torch.tensor(list(values), device=label.device))
        size = reference.sum()
        overlap = (predicted * reference).sum()
        # Without a structure both overlap and size are 0: the quotient is 0 and drops out below.
        dice.append((2 * overlap / (predicted.sum() + size + 1e-6), size > 0))
    present = torch.stack([there for _, there in dice]).float()
    mean = torch.stack([value for value, _ in dice]).sum() / present.sum().clamp(min=1)
    return loss + present.amax() * (1 - mean)
