"""Marks by which two copies of one scan are known, without the scan: for finding duplicates.

A mark is a place where the smoothed image is lighter or darker than all around it, with the order
of the intensities beside it. Such places stay when a scan is written anew, turned, resampled, cut,
windowed or compressed, and none of their coordinates is kept.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segfed.volumes import Volume

Floats = NDArray[np.float32]

VERSION = 1
"""Raised whenever the same scan would get other marks."""

_SCALES_MM = (1.5, 3.0)
_RATIO = 1.6
"""Of the two widths of smoothing whose difference is searched for extremes."""

_PER_SCALE = 128
"""Strongest places kept at each scale: of the lighter and of the darker kind, half each."""

_LEAST_CONTRAST = 1e-3
"""Of a place to its surroundings, in standard deviations of the image."""

_RADII = (2.0, 3.5)
"""Distances from the place, in widths, at which intensities are compared."""

_N_BITS = 48
_N_UNSURE = 4
"""Comparisons nearest to a tie, of which both outcomes are marked."""


def scan_marks(image: Volume) -> frozenset[int]:
    """The marks of a scan: numbers below 2^50, some thousands of them at most.

    Intensities matter by their order alone. Axes are those of the patient, so that a scan stored
    in another orientation has the same marks; a mirrored one has not.

    Args:
        image: One channel; the first of several is taken.

    References:
        Lowe 2004, https://doi.org/10.1023/B:VISI.0000029664.99615.94, for the places;
        Calonder et al. 2010, https://doi.org/10.1007/978-3-642-15561-1_56, for the comparisons.
    """
    stored = nib.Nifti1Image(image.data[0].astype(np.float32), image.grid.affine)
    turned = nib.as_closest_canonical(stored)
    whole = np.asarray(turned.dataobj, dtype=np.float32)
    marks: set[int] = set()
    for number, scale_mm in enumerate(_SCALES_MM):
        voxels, spacing_mm = _thinned(
            whole, np.asarray(turned.header.get_zooms()[:3], dtype=float), step_mm=1.1 * scale_mm
        )
        fine = _smoothed(voxels, spacing_mm, scale_mm)
        contrast = fine - _smoothed(voxels, spacing_mm, scale_mm * _RATIO)
        # Less than this is the rounding of a flat image.
        least = _LEAST_CONTRAST * float(voxels.std())
        places = _extremes(contrast, spacing_mm, rim_mm=_RADII[-1] * scale_mm, least=least)
        for kind, found in enumerate(places):
            prefix = (2 * number + kind) << _N_BITS
            marks.update(prefix | code for code in _codes(fine, found, spacing_mm, scale_mm))
    return frozenset(marks)


def _thinned(
    voxels: Floats, spacing_mm: NDArray[np.float64], *, step_mm: float
) -> tuple[Floats, NDArray[np.float64]]:
    """Means of blocks, so that a fine scan costs no more than a coarse one; coarse axes stay."""
    counts = np.maximum(1, np.floor(step_mm / spacing_mm + 0.01)).astype(int)
    if (counts == 1).all():
        return voxels, spacing_mm
    sizes = list(zip(voxels.shape, counts.tolist(), strict=True))
    kept = voxels[tuple(slice(0, size // n * n) for size, n in sizes)]
    blocks = kept.reshape([part for size, n in sizes for part in (size // n, n)])
    return blocks.mean(axis=(1, 3, 5)), spacing_mm * counts


def _smoothed(voxels: Floats, spacing_mm: NDArray[np.float64], width_mm: float) -> Floats:
    """The image at one scale."""
    smooth: Floats = ndimage.gaussian_filter(voxels, width_mm / spacing_mm, truncate=3.0)
    return smooth


def _extremes(
    contrast: Floats, spacing_mm: NDArray[np.float64], *, rim_mm: float, least: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (N, 3), in voxels and between them, of the strongest maxima and minima."""
    rim = np.ceil(rim_mm / spacing_mm).astype(int) + 1
    inner = tuple(slice(r, n - r) for r, n in zip(rim.tolist(), contrast.shape, strict=True))
    if any(part.stop <= part.start for part in inner):
        return np.empty((0, 3)), np.empty((0, 3))
    found = []
    for sign in (1, -1):
        field = sign * contrast
        is_peak = (field == ndimage.maximum_filter(field, size=3)) & (field > least)
        at = np.argwhere(is_peak[inner]) + rim
        strength = field[tuple(at.T)]
        strongest = at[np.argsort(-strength, kind="stable")[: _PER_SCALE // 2]]
        found.append(strongest + _offsets(field, strongest))
    return found[0], found[1]


def _offsets(field: Floats, at: NDArray[np.int64]) -> NDArray[np.float64]:
    """From the voxel to the top of the parabola through it and its neighbours, along each axis."""
    offsets = np.zeros(at.shape)
    for axis, step in enumerate(np.eye(3, dtype=int)):
        before, here, after = (field[tuple((at + s).T)] for s in (-step, 0 * step, step))
        curve = before - 2 * here + after
        with np.errstate(divide="ignore", invalid="ignore"):
            offsets[:, axis] = np.where(curve < 0, 0.5 * (before - after) / curve, 0.0)
    return np.clip(offsets, -0.5, 0.5)


def _codes(
    fine: Floats, places: NDArray[np.float64], spacing_mm: NDArray[np.float64], scale_mm: float
) -> list[int]:
    """Every place's comparisons as a number, with both outcomes of the least sure ones."""
    if len(places) == 0:
        return []
    offsets_mm = np.concatenate([radius * scale_mm * _DIRECTIONS for radius in _RADII])
    points = places[:, None, :] + offsets_mm / spacing_mm
    values = ndimage.map_coordinates(fine, points.reshape(-1, 3).T, order=1, mode="nearest")
    values = values.reshape(len(places), -1)
    differences = values[:, _PAIRS[:, 0]] - values[:, _PAIRS[:, 1]]
    bits = (differences > 0) @ (1 << np.arange(_N_BITS))
    unsure = np.argsort(np.abs(differences), axis=1, kind="stable")[:, :_N_UNSURE]
    codes: list[int] = []
    for code, positions in zip(bits.tolist(), unsure.tolist(), strict=True):
        for flips in range(1 << _N_UNSURE):
            mask = sum(1 << p for i, p in enumerate(positions) if flips >> i & 1)
            codes.append(code ^ mask)
    return codes


def _icosahedron() -> NDArray[np.float64]:
    """Twelve directions (12, 3), spread evenly; each is followed by its opposite."""
    golden = (1 + 5**0.5) / 2
    half = [(0, 1, golden), (0, 1, -golden), (1, golden, 0), (1, -golden, 0), (golden, 0, 1),
            (-golden, 0, 1)]  # fmt: skip
    both = [sign * np.array(vertex) for vertex in half for sign in (1, -1)]
    return np.array(both) / np.hypot(1, golden)


_DIRECTIONS = _icosahedron()
# Opposite points and three others on the same shell: all of them differ by the image alone.
_PAIRS = np.array(
    [
        (shell + 2 * i, shell + other % 12)
        for shell in (0, 12)
        for i in range(6)
        for other in (2 * i + 1, 2 * i + 4, 2 * i + 7, 2 * i + 10)
    ]
)
