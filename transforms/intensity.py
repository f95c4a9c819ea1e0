"""Intensities of training patches changed at random.

What is done to which sample is decided on the CPU, so that a GPU never waits for an answer, and so
that every device does the same. Only samples that are changed cost time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn.functional import interpolate

from transforms.geometry import thin_axis

# How often a sample is changed in each way, and the range of the number drawn for each channel:
# factors, exponents, deviations of the channel, voxels for the blur.
_WAYS = {
    "contrast": (0.3, 0.7, 1.4),
    "brightness": (0.3, -0.3, 0.3),
    "gamma": (0.3, 0.7, 1.5),
    "blur": (0.1, 0.6, 1.0),
    "resolution": (0.25, 0.5, 1.0),
    "noise": (0.3, 0.0, 0.2),
}


def change_intensity_(images: torch.Tensor, *, generator: torch.Generator) -> None:
    """Change contrast, brightness, gamma, sharpness, resolution and noise at random, in place.

    Ranges are relative to each channel's own deviation, so that they suit windows of CT and
    z-scores of MR alike.

    Args:
        images: Shape (B, C, I, J, K), float32.
        generator: Source of all randomness, on the CPU.
    """
    n_samples, n_channels = images.shape[:2]
    chances = torch.rand((n_samples, len(_WAYS)), generator=generator).tolist()
    drawn = torch.rand((n_samples, n_channels, len(_WAYS)), generator=generator).tolist()
    seed = int(torch.randint(2**62, (1,), generator=generator))
    noise = torch.Generator(images.device).manual_seed(seed)
    for image, chance, numbers in zip(images, chances, drawn, strict=True):
        for channel, fractions in zip(image, numbers, strict=True):
            change = {
                way: low + (high - low) * fraction
                for (way, (probability, low, high)), happens, fraction in zip(
                    _WAYS.items(), chance, fractions, strict=True
                )
                if happens < probability
            }
            _apply(change, channel, noise=noise)


def _apply(change: Mapping[str, float], channel: torch.Tensor, *, noise: torch.Generator) -> None:
    """Change one channel (I, J, K) of one sample in place."""
    # Not std_mean, which takes longer than all the rest.
    mean = channel.mean()
    deviation = (channel - mean).square_().mean().sqrt_()
    if "contrast" in change:
        channel.mul_(change["contrast"]).add_(mean * (1 - change["contrast"]))
    if "brightness" in change:
        channel.add_(deviation * change["brightness"])
    if "gamma" in change:
        _bend(channel, change["gamma"])
    if "blur" in change:
        softened = [_softening(n, change["blur"], like=channel) for n in channel.shape]
        channel.copy_(_along_axes(channel, softened))
    if "resolution" in change:
        channel.copy_(_coarsened(channel, change["resolution"]))
    if "noise" in change:
        drawn = torch.randn(channel.shape, generator=noise, device=channel.device)
        channel.addcmul_(drawn, deviation * change["noise"])


def _bend(channel: torch.Tensor, exponent: float) -> None:
    """Bend intensities between the darkest and the brightest, in place."""
    darkest = channel.amin()
    width = (channel.amax() - darkest).clamp_(min=1e-6)
    channel.sub_(darkest).div_(width).clamp_(0, 1).pow_(exponent).mul_(width).add_(darkest)


def _along_axes(channel: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """A volume (I, J, K) whose lines along each axis are multiplied by that axis's matrix."""
    by_i, by_j, by_k = matrices
    planes = by_j @ (channel @ by_k.T)
    return (by_i @ planes.flatten(1)).view(-1, *planes.shape[1:])


def _softening(n: int, deviation: float, *, like: torch.Tensor) -> torch.Tensor:
    """A matrix (n, n) that takes Gaussian means of neighbours, of those that there are.

    Along all axes it is what a softer reconstruction kernel does.
    """
    index = torch.arange(n, dtype=like.dtype, device=like.device)
    weights = ((index - index[:, None]) / deviation).square_().mul_(-0.5).exp_()
    return weights / weights.sum(dim=1, keepdim=True)


def _coarsened(channel: torch.Tensor, factor: float) -> torch.Tensor:
    """A volume of which a part of the voxels is kept, with what lies between them interpolated.

    As nnU-Net simulates a scan of lower resolution; slices that are thick already keep theirs.
    """
    thin = thin_axis(channel.shape)
    size = [
        n if axis == thin else max(1, round(n * factor)) for axis, n in enumerate(channel.shape)
    ]
    kept = interpolate(channel[None, None], size, mode="nearest-exact")[0, 0]
    # What PyTorch does with each unit vector: in three products it takes half of its time.
    lines = [torch.eye(n, dtype=channel.dtype, device=channel.device)[None] for n in size]
    matrices = [
        interpolate(line, n, mode="linear")[0].T
        for line, n in zip(lines, channel.shape, strict=True)
    ]
    return _along_axes(kept, matrices)
