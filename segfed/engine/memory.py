"""How much GPU memory a training takes, counted before it starts."""

from __future__ import annotations

from collections.abc import Callable

import torch

from segfed.engine.loss import segmentation_loss
from segfed.engine.network import UNet, network_arguments
from segfed.engine.plan import Plan

# Weights and AdamW's two moments and the gradient in float32, and autocast's copy in bfloat16.
_BYTES_PER_WEIGHT = 4 * 4 + 2
# The CUDA context with the kernels it loads, and the work space of cuDNN.
_RESERVED_BYTES = 3 * 2**29
# What PyTorch's allocator cannot use between blocks of different sizes, and the augmentation.
_SLACK = 1.1


def training_bytes(plan: Plan, *, batch_size: int | None = None) -> int:
    """Most GPU memory that a training step takes at once, in bytes: an estimate from above.

    The model: every tensor that the backward pass needs, in bfloat16 for the network and in float32
    for the loss; while it runs, two gradients as large as the network's largest, or those of the
    loss's two terms and their sum; weights, gradients and AdamW's moments in float32; 1.5 GiB for
    CUDA itself, and a tenth of all for fragmentation.

    The tensors are counted by a forward pass on PyTorch's ``meta`` device, which computes shapes
    and nothing else, so that the count follows the network whatever becomes of it.

    Args:
        plan: The plan.
        batch_size: Instead of the plan's.
    """
    per_patch, weights = _count(plan)
    stored = weights * _BYTES_PER_WEIGHT + per_patch * (batch_size or plan.batch_size)
    return int(stored * _SLACK) + _RESERVED_BYTES


def _count(plan: Plan) -> tuple[int, int]:
    """Bytes that grow with every patch of the batch, and number of weights."""
    with torch.device("meta"):
        network = UNet(**network_arguments(plan))  # type: ignore[arg-type]
        image = torch.empty(1, plan.n_inputs, *plan.patch_voxels)
        label = torch.empty(1, *plan.patch_voxels, dtype=torch.uint8)
    own = {_storage(weight)[0] for weight in network.parameters()}
    scales, activations = _saved(lambda: network.at_scales(image))
    # In float32 here, so that shapes are counted once and halved below.
    _, losses = _saved(
        lambda: segmentation_loss(
            scales[0].detach().requires_grad_(), label, structures=plan.structures.values()
        )
    )
    kept = {key: size for key, size in activations.items() if key not in own}
    # Half of two: float32 was counted, bfloat16 is what they will be.
    gradients = max(max(kept.values()), 3 * max(losses.values()))
    stored = sum(kept.values()) // 2 + sum(losses.values()) + image.nbytes + label.nbytes
    weights = sum(weight.numel() for weight in network.parameters())
    return stored + gradients, weights


def _saved(
    compute: Callable[[], list[torch.Tensor] | torch.Tensor],
) -> tuple[list[torch.Tensor], dict[int, int]]:
    """What a function gives, and the bytes of each tensor that its backward pass would need."""
    sizes: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        key, size = _storage(tensor)
        sizes[key] = size
        alive.append(tensor)  # else another tensor could take the same identity
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()
    return result if isinstance(result, list) else [result], sizes


def _storage(tensor: torch.Tensor) -> tuple[int, int]:
    """Identity and size in bytes of the memory behind a tensor, which views share."""
    storage = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()
