"""The parts that a level of the UNet is made of."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import batch_norm, leaky_relu, linear

SLOPE = 0.01
"""Of the leaky ReLU, where its input is negative."""

# Of group norm; where there are fewer channels, or their number does not divide, fewer.
_GROUPS = 8

# Along each axis of a convolution's result, for bfloat16 on a CPU.
_FEWEST_VOXELS = 3

Triple = tuple[int, int, int]


def build_level(
    before: int, after: int, *, kernel: Triple, stride: Triple, group_norm: bool, residual: bool
) -> nn.Module:
    """Two convolutions, each with norm and leaky ReLU; the first may reduce the resolution.

    Args:
        before: Channels that come in.
        after: Channels that go out.
        kernel: Sides of both convolutions along I, J and K.
        stride: Of the first one.
        group_norm: Norm over groups of channels instead of over each channel.
        residual: A short cut around both, up to the last leaky ReLU.
    """
    first = _convolution(before, after, kernel=kernel, stride=stride, group_norm=group_norm)
    second = _convolution(after, after, kernel=kernel, stride=(1, 1, 1), group_norm=group_norm)
    if not residual:
        return nn.Sequential(*first, _relu(), *second, _relu())
    shortcut: list[nn.Module] = []
    if max(stride) > 1:
        shortcut.append(nn.AvgPool3d(stride, stride))
    if before != after:
        once = (1, 1, 1)
        shortcut += _convolution(before, after, kernel=once, stride=once, group_norm=group_norm)
    return _Residual(nn.Sequential(*first, _relu(), *second), nn.Sequential(*shortcut))


class _Residual(nn.Module):
    """The sum of two ways (He et al. 2016, with nnU-Net's pooling where the resolution falls)."""

    def __init__(self, convolutions: nn.Sequential, shortcut: nn.Sequential) -> None:
        """Join them."""
        super().__init__()
        self.convolutions = convolutions
        self.shortcut = shortcut

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Shape (B, C, I, J, K) in and out, each with its own C, I, J and K."""
        total: torch.Tensor = self.convolutions(image) + self.shortcut(image)
        return leaky_relu(total, SLOPE, inplace=True)


class Convolution(nn.Conv3d):
    """A convolution without bias, padded to keep the size, in bfloat16 only where that is right.

    On a CPU the gradient of bfloat16 weights reads memory that nobody wrote, or writes beyond its
    own, where the result has one or two voxels along an axis (PyTorch 2.13 with oneDNN on AVX-512;
    seen by filling free memory). So few voxels cost nothing in float32.
    """

    def __init__(self, before: int, after: int, *, kernel: Triple, stride: Triple) -> None:
        """Channels that come in and go out; sides along I, J and K, odd, and steps."""
        i, j, k = (side // 2 for side in kernel)
        super().__init__(before, after, kernel, stride=stride, padding=(i, j, k), bias=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Shape (B, C, I, J, K) in and out, each with its own C, I, J and K."""
        sides = (-(-n // step) for n, step in zip(image.shape[2:], self.stride, strict=True))
        if not _by_hand(image) or min(sides) >= _FEWEST_VOXELS:
            return super().forward(image)
        with torch.autocast("cpu", enabled=False):
            return super().forward(image.float())


class InstanceNorm(nn.InstanceNorm3d):
    """Instance norm that leaves channels last where they are.

    On a CPU PyTorch's own puts such a tensor in order channel by channel and leaves it so, and the
    next convolution has to turn it back. What it computes of one sample is what batch norm
    computes of that sample by itself, which keeps the order.
    """

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Shape (B, C, I, J, K) in and out."""
        if not _by_hand(image):
            return super().forward(image)
        return torch.cat(
            [
                batch_norm(sample, None, None, self.weight, self.bias, training=True, eps=self.eps)
                for sample in torch.split(image, 1)
            ]
        )


class Upsample(nn.ConvTranspose3d):
    """A transposed convolution whose kernel is its stride: each voxel becomes a block of voxels.

    On a CPU it is one matrix product; PyTorch's own takes five times as long for its gradient.
    """

    def __init__(self, before: int, after: int, stride: Triple) -> None:
        """Channels that come in and go out, and the sides of a block along I, J and K."""
        super().__init__(before, after, kernel_size=stride, stride=stride)

    def forward(self, image: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Shape (B, C, I, J, K) in and out."""
        if not _by_hand(image):
            return super().forward(image)
        size, _, *shape = image.shape
        after, *block = self.weight.shape[1:]
        weight = self.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)
        bias = None if self.bias is None else self.bias.repeat(math.prod(block))
        voxels = linear(image.movedim(1, -1), weight, bias).view(size, *shape, *block, after)
        # I and its part of the block, J and its, K and its, and the channels last
        blocks = voxels.permute(0, 1, 4, 2, 5, 3, 6, 7)
        sides = [n * step for n, step in zip(shape, block, strict=True)]
        return blocks.reshape(size, *sides, after).movedim(-1, 1)


class Head(nn.Conv3d):
    """A convolution of single voxels, on a CPU as a matrix product, which takes less time."""

    def __init__(self, before: int, after: int) -> None:
        """Channels that come in and go out."""
        super().__init__(before, after, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Shape (B, C, I, J, K) in and out, each with its own C."""
        if not _by_hand(image):
            return super().forward(image)
        return linear(image.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


def _by_hand(image: torch.Tensor) -> bool:
    """Whether a layer is put together from parts: not where a program of it is exported."""
    return image.device.type == "cpu" and not torch.compiler.is_compiling()


def _convolution(
    before: int, after: int, *, kernel: Triple, stride: Triple, group_norm: bool
) -> list[nn.Module]:
    """Convolution and norm, whose own shift makes a bias needless."""
    return [
        Convolution(before, after, kernel=kernel, stride=stride),
        nn.GroupNorm(math.gcd(_GROUPS, after), after)
        if group_norm
        else InstanceNorm(after, affine=True),
    ]


def _relu() -> nn.Module:
    return nn.LeakyReLU(SLOPE, inplace=True)
