"""One case in the rounded numbers that its site's fingerprint counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from segfed.errors import CaseError
from segfed.sites.histograms import round_digits, round_ratio
from segfed.sites.tasks import Task
from segfed.volumes import Grid, Volume

# Spacing belongs to the scanner's protocol, and a plan that is off by a little would resample every
# image: three digits keep 0.75 and 1.25 as they are. What depends on the patient is kept coarser.
_SPACING_DIGITS = 3
_LENGTH_RATIO = 1.05
_VOLUME_RATIO = 2.0
_BIN_HU = 2
_LOWEST_HU, _HIGHEST_HU = -1024, 3072
# Each case counts as much as any other, whatever the size of its structures.
_PARTS_PER_CASE = 1_000_000


@dataclass(frozen=True)
class CaseNumbers:
    """What one case adds to its site's fingerprint; it never leaves the site by itself."""

    spacing_mm: tuple[float, ...]
    size_voxels: tuple[float, ...]
    extent_mm: tuple[float, ...]
    volume_ml: dict[str, float]
    """Only of the structures that the case has."""

    intensity_hu: Counter[float]


def check_contrast(image: Volume, *, channels: Sequence[str]) -> None:
    """Refuse a channel that holds one value only."""
    for name, voxels in zip(channels, image.data, strict=True):
        if voxels.min() == voxels.max():
            raise CaseError(
                f"Channel {name} holds {voxels.flat[0]:g} in every voxel; expected an image with "
                "contrast. Import the case again from its source."
            )


def case_numbers(
    image: Volume, label: NDArray[np.integer[Any]] | None, *, task: Task
) -> CaseNumbers:
    """Rounded numbers of one case.

    Args:
        image: Intensities (C, I, J, K).
        label: The task's label values (I, J, K) on the image's grid; None where nobody labelled.
        task: Names the structures.
    """
    spacing_mm, size_voxels = _along_ras(image.grid)
    volume_ml: dict[str, float] = {}
    intensity_hu: Counter[float] = Counter()
    if label is not None:
        inside = np.zeros(label.shape, dtype=bool)
        for name, values in task.structures.items():
            mask = _mask(label, values)
            inside |= mask
            if mask.any():
                volume_ml[name] = np.count_nonzero(mask) * image.grid.voxel_mm3 / 1000
        if task.modality == "CT" and inside.any():
            intensity_hu = _intensity_parts(image.data[0][inside])
    return CaseNumbers(
        spacing_mm=tuple(round_digits(mm, digits=_SPACING_DIGITS) for mm in spacing_mm),
        size_voxels=tuple(round_ratio(size, ratio=_LENGTH_RATIO) for size in size_voxels),
        extent_mm=tuple(
            round_ratio(mm * size, ratio=_LENGTH_RATIO)
            for mm, size in zip(spacing_mm, size_voxels, strict=True)
        ),
        volume_ml={
            name: round_ratio(volume, ratio=_VOLUME_RATIO) for name, volume in volume_ml.items()
        },
        intensity_hu=intensity_hu,
    )


def _mask(label: NDArray[np.integer[Any]], values: Sequence[int]) -> NDArray[np.bool_]:
    """Where a label holds one of some values; a byte a voxel, unlike ``numpy.isin``."""
    mask: NDArray[np.bool_] = label == values[0]
    for value in values[1:]:
        mask |= label == value
    return mask


def _along_ras(grid: Grid) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Spacing in mm and size in voxels along the axes nearest to right, anterior, superior."""
    worlds = nib.orientations.io_orientation(grid.affine)[:, 0].astype(int).tolist()
    order = [worlds.index(axis) for axis in range(3)]
    return tuple(grid.spacing_mm[a] for a in order), tuple(grid.shape[a] for a in order)


def _intensity_parts(values_hu: NDArray[np.float32]) -> Counter[float]:
    """Millionths of some voxels by rounded intensity; the ends stand for all that lies beyond."""
    clipped = np.clip(values_hu, _LOWEST_HU, _HIGHEST_HU)
    steps = np.rint((clipped - _LOWEST_HU) / _BIN_HU).astype(np.int64)
    parts = np.rint(np.bincount(steps) * (_PARTS_PER_CASE / len(steps))).astype(np.int64)
    return Counter(
        {float(_LOWEST_HU + _BIN_HU * step): int(parts[step]) for step in np.flatnonzero(parts)}
    )
