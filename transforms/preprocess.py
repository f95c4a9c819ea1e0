"""From an image on its own grid to what the network sees, the same for training and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Lambdad

from transforms.resample import ras_grid, resample


def preprocess(
    *,
    spacing_mm: Sequence[float],
    window_hu: tuple[float, float] | None,
    keys: tuple[str, str] = ("image", "label"),
) -> Compose:
    """Transforms of a case: RAS axes, one spacing, comparable intensities.

    The input is a dict with an image (C, I, J, K) and, in training, a label (1, I, J, K), both
    ``MetaTensor`` with an affine from voxel index to RAS mm. The result holds them on the new
    grid; the inputs are not changed.

    Args:
        spacing_mm: Spacing of the result along the RAS axes, in mm.
        window_hu: CT intensities (lower, upper) mapped to 0 and 1, with values outside clipped;
            None for MRI, whose channels are z-scored inside the brain, the voxels that are not 0.
        keys: Names of image and label in the dict.

    Raises:
        ValueError: If a spacing is not positive or the window not ordered.
    """
    if len(spacing_mm) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise ValueError(f"spacing_mm must be three positive numbers, found {tuple(spacing_mm)}")
    if window_hu is not None and not window_hu[0] < window_hu[1]:
        raise ValueError(f"window_hu must be (lower, upper) with lower < upper, found {window_hu}")
    image, label = keys
    intensity = z_score if window_hu is None else partial(scale_window, window_hu=window_hu)
    return Compose(
        [
            Lambdad(image, partial(to_ras, spacing_mm=spacing_mm, nearest=False)),
            Lambdad(
                label,
                partial(to_ras, spacing_mm=spacing_mm, nearest=True),
                allow_missing_keys=True,
            ),
            Lambdad(image, intensity),
        ]
    )


def as_metatensor(data: Any, affine: Any) -> MetaTensor:
    """A tensor that knows where its voxels lie.

    Args:
        data: Array or tensor (C, I, J, K); memory is shared where PyTorch can share it.
        affine: 4x4, from voxel index to RAS mm.
    """
    if isinstance(data, np.ndarray):
        # PyTorch knows neither read-only memory nor negative strides.
        if not data.flags.writeable or min(data.strides) < 0:
            data = data.copy()
        data = torch.from_numpy(data)
    affine = torch.as_tensor(np.array(affine, dtype=np.float64))
    return MetaTensor(data, affine=affine)


def to_ras(volume: MetaTensor, *, spacing_mm: Sequence[float], nearest: bool) -> MetaTensor:
    """A volume (C, I, J, K) with RAS axes and a given spacing; integers stay integers if nearest.

    An image is interpolated as float32; see ``transforms.resample.ras_grid`` for the grid.
    """
    affine = np.asarray(volume.affine, dtype=np.float64)
    target_affine, target_shape = ras_grid(affine, volume.shape[1:], spacing_mm=spacing_mm)
    data = volume.as_tensor()
    resampled = resample(
        data if nearest else data.float(),
        affine=affine,
        target_affine=target_affine,
        target_shape=target_shape,
        nearest=nearest,
    )
    return as_metatensor(resampled.contiguous(), target_affine)


def scale_window(image: MetaTensor, *, window_hu: tuple[float, float]) -> MetaTensor:
    """CT intensities mapped so that the window becomes [0, 1]; values outside are clipped."""
    lower, upper = window_hu
    scaled = ((image.as_tensor() - lower) / (upper - lower)).clamp_(0, 1)
    return as_metatensor(scaled, image.affine)


def z_score(image: MetaTensor) -> MetaTensor:
    """MR intensities of each channel with mean 0 and deviation 1 over its voxels that are not 0.

    Zeros, the background of a skull-stripped brain, stay 0. A channel whose voxels are all alike
    becomes 0 everywhere: it carries no contrast.
    """
    scored = torch.zeros_like(image.as_tensor())
    for channel, result in zip(image.as_tensor(), scored, strict=True):
        brain = channel != 0
        values = channel[brain]
        if len(values) == 0 or values.min() == values.max():
            continue
        deviation, mean = torch.std_mean(values.double(), correction=0)
        result[brain] = ((values - mean) / deviation).float()
    return as_metatensor(scored, image.affine)
