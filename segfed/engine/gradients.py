"""Loss and gradients of a batch, taken in parts where memory is short."""

from __future__ import annotations

import logging

import torch

from segfed.engine.device import mixed_precision
from segfed.engine.loss import loss_at_scales
from segfed.engine.network import UNet
from segfed.engine.plan import Plan

_LOG = logging.getLogger(__name__)


class BatchGradients:
    """Computes gradients in as few parts of a batch as have fitted into memory so far."""

    def __init__(self, network: UNet, plan: Plan, *, device: torch.device) -> None:
        """Begin with whole batches."""
        self._network = network
        is_compiled = plan.autotune and device.type == "cuda"
        self._compiled = torch.compile(network.at_scales) if is_compiled else None
        self._structures = tuple(plan.structures.values())
        self._device = device
        self._n_parts = 1

    def take(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Loss of a batch, whose gradients replace those of the network's weights.

        Args:
            images: Shape (B, C, I, J, K), on the device.
            labels: Shape (B, I, J, K), on the device.

        Raises:
            torch.OutOfMemoryError: If the device cannot hold a single patch.
        """
        while (loss := self._in_parts(images, labels)) is None:
            self._n_parts = min(2 * self._n_parts, len(images))
            _LOG.warning(
                "A batch of %d patches does not fit into the memory of %s: gradients are added up "
                "over %d parts from now on. Dice is then taken over each part by itself.",
                len(images),
                self._device,
                self._n_parts,
            )
        return loss

    def _in_parts(self, images: torch.Tensor, labels: torch.Tensor) -> float | None:
        """As ``take``; None where memory ran out, but smaller parts may fit."""
        self._network.zero_grad(set_to_none=True)
        total = 0.0
        at_scales = self._compiled or self._network.at_scales
        parts = zip(images.chunk(self._n_parts), labels.chunk(self._n_parts), strict=True)
        try:
            for image, label in parts:
                with mixed_precision(self._device):
                    scales = at_scales(image)
                loss = loss_at_scales(scales, label, structures=self._structures)
                loss = loss * (len(image) / len(images))
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        except torch.OutOfMemoryError:
            if self._n_parts >= len(images):
                raise
            # Memory is free again once this frame is gone.
            return None
        return total
