"""What training minimises: cross-entropy over label values plus soft Dice over structures."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch


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
        label: Shape (B, I, J, K), of any integer type.
        structures: Label values of each structure.
    """
    n_classes = logits.shape[1]
    # One row a class, (K, voxels), whatever the layout was: this is all that the time goes into.
    log_probability = (
        torch.stack([scores.flatten() for scores in logits.unbind(dim=1)])
        .float()
        .log_softmax(dim=0)
    )
    values = torch.arange(n_classes, dtype=label.dtype, device=label.device)
    truth = (label.flatten() == values[:, None]).to(log_probability)
    cross_entropy = -torch.dot(truth.flatten(), log_probability.flatten()) / label.numel()
    # Probability mass of class k on the voxels whose label is l: holds all that Dice needs.
    confusion = log_probability.exp() @ truth.T
    belongs = torch.zeros(len(structures), n_classes, device=label.device)
    for row, members in zip(belongs, structures, strict=True):
        row[list(members)] = 1
    overlap = torch.einsum("sk,kl,sl->s", belongs, confusion, belongs)
    predicted, reference = belongs @ confusion.sum(dim=1), belongs @ confusion.sum(dim=0)
    dice = 2 * overlap / (predicted + reference).clamp(min=1e-6)
    # References are sums of probabilities over voxels: 0, or about 1 and more.
    present = (reference > 0.5).float()
    mean_dice = (dice * present).sum() / present.sum().clamp(min=1)
    return cross_entropy + present.amax() * (1 - mean_dice)


def loss_at_scales(
    scales: Sequence[torch.Tensor],
    label: torch.Tensor,
    *,
    structures: Collection[Sequence[int]],
) -> torch.Tensor:
    """Mean of the losses of all supervised scales; each counts half of the finer one.

    Args:
        scales: Logits (B, K, i, j, k) of each scale, the label's own first.
        label: Shape (B, I, J, K), of any integer type.
        structures: Label values of each structure.
    """
    weights = [0.5**depth for depth in range(len(scales))]
    losses = [
        weight * segmentation_loss(logits, _thinned(label, logits.shape[2:]), structures=structures)
        for weight, logits in zip(weights, scales, strict=True)
    ]
    return torch.stack(losses).sum() / sum(weights)


def _thinned(label: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A label (B, I, J, K) on a coarser grid."""
    i, j, k = (full // coarse for full, coarse in zip(label.shape[1:], shape, strict=True))
    # The voxel at the corner of each block stands for it: a label has no mean.
    return label[:, ::i, ::j, ::k]
