"""Brains with gliomas: labels, and four MR channels around a label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segfed.phantom.fields import (
    Field,
    Mask,
    Triple,
    from_ras,
    signed_distance,
    smooth_field,
    to_ras,
    voxel_positions,
)
from segfed.phantom.scanner import Scanner
from segfed.volumes import Grid

FIELD_MM = (152.0, 184.0, 140.0)
"""Field of view along R, A and S around the whole brain."""

CHANNELS = ("t1n", "t1c", "t2w", "t2f")
NECROSIS, EDEMA, ENHANCING = 1, 2, 3

_HALF_AXES = (0.46, 0.47, 0.46)  # of the brain, as shares of the field
_LATERAL_SHARE = 0.55  # lesions' centres lie within this share of the brain's half axes
_SOLID_SHARE = 0.25  # cores without necrosis

# Signal by tissue, relative to white matter in T1, for t1n, t1c, t2w, t2f
_SIGNAL = {
    "csf": (0.28, 0.28, 1.15, 0.22),
    "gray": (0.72, 0.76, 0.72, 0.72),
    "white": (1.00, 1.00, 0.52, 0.56),
    "nuclei": (0.80, 0.84, 0.62, 0.62),
    "vessel": (0.75, 1.55, 0.35, 0.40),
    "edema": (0.74, 0.74, 1.00, 1.12),
    "enhancing": (0.70, 1.45, 0.88, 0.95),
    "necrosis": (0.45, 0.48, 1.10, 0.72),
}


def brain_case(
    rng: np.random.Generator, grid: Grid, *, lesion_scale: float = 1.0
) -> NDArray[np.uint8]:
    """A label (I, J, K) of one glioma: necrotic core, enhancing rim, edema around both.

    The edema is irregular and 14 to 34 mm in radius; the core fills half to three quarters of
    that radius, off its centre. A quarter of the cores are solid: enhancing, without necrosis.

    Args:
        rng: Source of the anatomy.
        grid: Must cover about `FIELD_MM`.
        lesion_scale: Factor on the radii, for sites that see other patients.
    """
    template, spacing_mm = to_ras(np.zeros(grid.shape, dtype=np.uint8), grid)
    axes, half_axes_mm = _centred(template.shape, spacing_mm)
    fields = [
        smooth_field(rng, shape=template.shape, spacing_mm=spacing_mm, correlation_mm=length)
        for length in (11.0, 7.0)
    ]
    direction = rng.normal(size=3)
    direction *= _LATERAL_SHARE * rng.uniform(0.5, 1.0) / np.linalg.norm(direction)
    direction[0] = np.copysign(max(abs(direction[0]), 0.25), direction[0])
    centre_mm = direction * half_axes_mm
    radius_mm = float(np.clip(rng.lognormal(np.log(23.0), 0.28) * lesion_scale, 14.0, 34.0))
    core_mm = radius_mm * rng.uniform(0.5, 0.75)
    shift_mm = rng.uniform(-0.18, 0.18, 3) * radius_mm
    rim_mm = rng.uniform(5.0, 9.0)
    brain = _brain(axes, half_axes_mm) < 0.93
    whole = _ball(axes, centre_mm, radius_mm) + 0.16 * (fields[0] + fields[1])
    core = (_ball(axes, centre_mm + shift_mm, core_mm) + 0.16 * fields[1]) * core_mm
    label = np.zeros(template.shape, dtype=np.uint8)
    label[brain & (whole < 1)] = EDEMA
    label[brain & (core < core_mm)] = ENHANCING
    if rng.uniform() >= _SOLID_SHARE:
        label[brain & (core < core_mm - rim_mm * (1 + 0.3 * fields[0]))] = NECROSIS
    return np.ascontiguousarray(from_ras(label, grid))


def render_mr(
    label: NDArray[np.integer[Any]], grid: Grid, rng: np.random.Generator, scanner: Scanner
) -> NDArray[np.int16]:
    """Channels (4, I, J, K) t1n, t1c, t2w, t2f of a stripped brain with the lesions of a label.

    Edema is bright in t2f, the enhancing rim in t1c. Outside the brain all channels are exactly
    zero, inside above zero. Signals are in arbitrary units that differ from channel to channel.

    Args:
        label: Values 1 necrotic core, 2 edema, 3 enhancing tumor.
        grid: The label's grid, in any orientation; the brain fills it.
        rng: Source of anatomy, texture and noise.
        scanner: Noise, blur, gamma and bias field; its spacing plays no part.
    """
    voxels, spacing_mm = to_ras(label, grid)

    def field(correlation_mm: float) -> Field:
        return smooth_field(
            rng, shape=voxels.shape, spacing_mm=spacing_mm, correlation_mm=correlation_mm
        )

    tissue, brain = _tissues(voxels, spacing_mm, rng)
    texture = field(4.0)
    blur = [scanner.blur_mm / step for step in spacing_mm]
    # Blurring stops at the brain's edge: the skull was stripped after the scan
    inside = np.maximum(ndimage.gaussian_filter(brain.astype(np.float32), blur), 1e-3)
    channels = np.zeros((len(CHANNELS), *grid.shape), dtype=np.int16)
    for index in range(len(CHANNELS)):
        contrast = rng.normal(1.0, 0.05, len(_SIGNAL))
        level = np.array([row[index] for row in _SIGNAL.values()]) * contrast
        signal = level.astype(np.float32)[tissue] * (1 + 0.04 * texture) * brain
        signal = np.where(brain, ndimage.gaussian_filter(signal, blur) / inside, 0)
        signal = np.clip(signal / 1.6, 0, None) ** scanner.gamma
        signal *= np.exp(scanner.bias_field * field(60.0))
        noise = rng.standard_normal((2, *voxels.shape), dtype=np.float32) * (scanner.noise / 1.6)
        # Magnitude of a complex signal: Rician noise, never negative
        signal = np.sqrt((signal + noise[0]) ** 2 + noise[1] ** 2)
        scaled = np.clip(np.rint(1000.0 * rng.uniform(0.6, 1.4) * signal), 1, 32767)
        channels[index] = from_ras(np.where(brain, scaled, 0), grid)
    return channels


def _tissues(
    voxels: NDArray[np.integer[Any]], spacing_mm: Triple, rng: np.random.Generator
) -> tuple[NDArray[np.intp], Mask]:
    """Index of every voxel's tissue in `_SIGNAL`, and the brain's mask."""
    axes, half_axes_mm = _centred(voxels.shape, spacing_mm)
    folds, shape = (
        smooth_field(rng, shape=voxels.shape, spacing_mm=spacing_mm, correlation_mm=length)
        for length in (5.5, 25.0)
    )
    x, y, z = axes
    radius = _brain(axes, half_axes_mm) + 0.02 * shape
    brain = (radius < 1) | (voxels > 0)
    depth_mm = signed_distance(brain, spacing_mm) * -1
    away = np.abs(x)
    fissure = (away < 1.5) & ((depth_mm < 24.0) | (np.abs(y) > 40.0)) & (z > -20.0)
    # Sulci: thin sheets, where the folding field changes sign, that reach some way down
    sulcus = ((np.abs(folds) < 0.2) & (depth_mm < 15.0)) | fissure | (depth_mm < 2.0)
    cortex = (signed_distance(sulcus, spacing_mm) < 3.2) & (depth_mm < 19.0)
    order = {name: index for index, name in enumerate(_SIGNAL)}
    tissue = np.full(voxels.shape, order["white"], dtype=np.intp)
    tissue[cortex] = order["gray"]
    tissue[sulcus] = order["csf"]
    for centre, radii in (
        ((13.0, 8.0, -2.0), (7.0, 16.0, 12.0)),
        ((23.0, 2.0, -2.0), (7.0, 17.0, 12.0)),
    ):
        nucleus = sum(
            ((a - c) / r) ** 2 for a, c, r in zip((away, y, z), centre, radii, strict=True)
        )
        tissue[np.asarray(nucleus < 1)] = order["nuclei"]
    size = rng.uniform(0.85, 1.35)
    # A lateral ventricle: a bow that rises from the frontal horn and sinks towards the back
    roof = 14.0 - (y / 22.0) ** 2 * 5.0 + 2.0 * shape
    ventricle = ((away - 8.0 - 0.09 * np.abs(y)) / (5.0 * size)) ** 2 + (
        (z - roof) / (7.0 * size)
    ) ** 2
    tissue[(ventricle < 1) & (np.abs(y) < 38.0)] = order["csf"]
    tissue[(away < 1.8 * size) & (np.abs(y) < 14.0) & (z < 8.0) & (z > -14.0)] = order["csf"]
    vein = (away < 3.0) & (depth_mm < 5.0) & (z > -10.0)
    tissue[vein] = order["vessel"]
    for value, name in ((EDEMA, "edema"), (ENHANCING, "enhancing"), (NECROSIS, "necrosis")):
        tissue[voxels == value] = order[name]
    return tissue, brain


def _centred(shape: tuple[int, ...], spacing_mm: Triple) -> tuple[list[Field], NDArray[np.float64]]:
    """Broadcastable positions in mm from the grid's middle, and the brain's half axes in mm."""
    shapes = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
    axes = [
        (p - p.mean()).reshape(s)
        for p, s in zip(voxel_positions(shape, spacing_mm), shapes, strict=True)
    ]
    extent_mm = np.multiply(shape, spacing_mm)
    return axes, extent_mm * _HALF_AXES


def _brain(axes: list[Field], half_axes_mm: NDArray[np.float64]) -> Field:
    """Distance from the middle relative to the brain's surface; flat below, narrow in front."""
    x, y, z = (a / h for a, h in zip(axes, half_axes_mm, strict=True))
    base = np.where(z < 0, 1.25, 1.0)  # the base of the skull cuts the lower half short
    return np.asarray(
        (np.abs(x * (1 + 0.12 * y)) ** 2.2 + np.abs(y) ** 2.2 + np.abs(z * base) ** 2.2)
        ** (1 / 2.2),
        dtype=np.float32,
    )


def _ball(axes: list[Field], centre_mm: NDArray[np.float64], radius_mm: float) -> Field:
    """Distance from a centre, in radii."""
    squared = sum((a - c) ** 2 for a, c in zip(axes, centre_mm, strict=True))
    return np.asarray(np.sqrt(squared) / radius_mm, dtype=np.float32)
