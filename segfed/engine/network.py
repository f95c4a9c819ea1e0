"""The 3D UNet that every site trains."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from functools import partial

import torch
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn

from segfed.engine.blocks import SLOPE, Head, Upsample, build_level
from segfed.engine.plan import Plan

_GENERATOR = threading.Lock()


class UNet(nn.Module):
    """A 3D UNet: two convolutions a level, instance norm, leaky ReLU, as in nnU-Net.

    With ``stem_stride`` 2 each block of 2x2x2 voxels becomes 8 channels before the first
    convolution, and the logits are shuffled back after the last one: the finest level, where
    nearly all of the time goes, then works on an eighth of the voxels.

    ``strides`` and ``kernels`` suit thick slices: a level may leave out the axis across them.

    Neither norm keeps statistics of the training data, so weights are all that there is to
    average, and small batches do no harm.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        strides: Sequence[Sequence[int]] | None = None,
        kernels: Sequence[Sequence[int]] | None = None,
        stem_stride: int = 1,
        deep_supervision: bool = False,
        group_norm: bool = False,
        residual: bool = False,
    ) -> None:
        """Build the network with PyTorch's default random weights.

        Args:
            in_channels: Image channels.
            out_channels: Label values, background among them.
            features: Channels of each level, finest first.
            strides: Along I, J and K, of each level after the first; 2 everywhere if not given.
            kernels: Sides of each level's convolutions along I, J and K; 3 if not given.
            stem_stride: 1, or 2 to work at half resolution.
            deep_supervision: Also give logits at every coarser level of the decoder but the
                coarsest, for training.
            group_norm: Norm over up to 8 groups of channels instead of over each channel.
            residual: A short cut around each level's two convolutions.
        """
        super().__init__()
        self.stem_stride = stem_stride
        block = stem_stride**3
        inputs = [in_channels * block, *features[:-1]]
        pairs = list(itertools.pairwise(features))
        steps = [(i, j, k) for i, j, k in strides or [(2, 2, 2)] * len(pairs)]
        sides = [(i, j, k) for i, j, k in kernels or [(3, 3, 3)] * len(features)]
        level = partial(build_level, group_norm=group_norm, residual=residual)
        self.encoder = nn.ModuleList(
            level(before, after, kernel=side, stride=step)
            for before, after, side, step in zip(
                inputs, features, sides, [(1, 1, 1), *steps], strict=True
            )
        )
        self.upsample = nn.ModuleList(
            Upsample(coarse, fine, step) for (fine, coarse), step in zip(pairs, steps, strict=True)
        )
        self.decoder = nn.ModuleList(
            level(2 * fine, fine, kernel=side, stride=(1, 1, 1))
            for (fine, _), side in zip(pairs, sides[:-1], strict=True)
        )
        n_heads = max(1, len(pairs) - 1) if deep_supervision else 1
        self.heads = nn.ModuleList(
            Head(width, out_channels * block) for width in features[:n_heads]
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, I, J, K) of an image (B, C, I, J, K)."""
        return self.at_scales(image)[0]

    def at_scales(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Logits at full resolution, then at each coarser one that is supervised."""
        if self.stem_stride > 1:
            image = pixelunshuffle(image, spatial_dims=3, scale_factor=self.stem_stride)
        skips = []
        for level in self.encoder:
            image = level(image)
            skips.append(image)
        image = skips.pop()
        scales: list[torch.Tensor] = []
        for depth in reversed(range(len(self.decoder))):
            image = self.upsample[depth](image)
            image = self.decoder[depth](torch.cat([image, skips.pop()], dim=1))
            if depth < len(self.heads):
                scales.insert(0, self._logits(image, depth))
        return scales

    def _logits(self, image: torch.Tensor, depth: int) -> torch.Tensor:
        """The head of one level, its logits back on the voxels before the stem."""
        logits: torch.Tensor = self.heads[depth](image)
        if self.stem_stride > 1:
            logits = pixelshuffle(logits, spatial_dims=3, scale_factor=self.stem_stride)
        return logits


def build_network(plan: Plan, *, seed: int) -> UNet:
    """The plan's network with weights that depend on nothing but the seed."""
    # Models are built in several threads, and PyTorch's generator belongs to all of them.
    with _GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(**network_arguments(plan))  # type: ignore[arg-type]
        for module in network.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return network


def network_arguments(plan: Plan) -> dict[str, object]:
    """The keyword arguments of ``UNet`` that build a plan's network; plain JSON values."""
    return {
        "in_channels": plan.n_inputs,
        "out_channels": plan.n_classes,
        "features": list(plan.features),
        "strides": [list(stride) for stride in plan.level_strides],
        "kernels": [list(kernel) for kernel in plan.kernels],
        "stem_stride": plan.stem_stride,
        "deep_supervision": plan.deep_supervision,
        "group_norm": plan.group_norm,
        "residual": plan.residual,
    }
