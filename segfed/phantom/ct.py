"""CT images around a label of kidneys, tumors and cysts: drawn ones and real masks alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segfed.phantom.abdomen import FAT, Abdomen, Frame
from segfed.phantom.fields import (
    Field,
    Mask,
    Triple,
    as_triple,
    from_ras,
    interpolate,
    signed_distance,
    to_ras,
    voxel_positions,
)
from segfed.phantom.kidneys import CYST, KIDNEY, TUMOR
from segfed.phantom.scanner import Scanner
from segfed.volumes import Grid

_SLAB_VOXELS = 4_000_000  # about 300 MB of temporary arrays
_COARSE_MM = 2.5  # distances are smooth: finer masks are thinned before they are measured
_SINUS_MM = 14.0  # half the widest opening that still counts as a kidney's hilum
_PERIRENAL_MM = 9.0
_HALF_APART_MM = 35.0  # kidneys whose centres are nearer than twice this are taken for one
_USUAL_HALF_APART_MM = 66.0


@dataclass(frozen=True)
class _Kidneys:
    """What the renderer measures on a label, coarsely, in a box around the foreground."""

    offset_mm: NDArray[np.float64]
    """Position of the box's first voxel."""

    step_mm: NDArray[np.float64]
    outside_mm: Field
    """Signed distance from the foreground."""

    depth_mm: Field
    """Depth below the kidneys' outer surface, the hilum closed."""


def render_ct(
    label: NDArray[np.integer[Any]], grid: Grid, rng: np.random.Generator, scanner: Scanner
) -> NDArray[np.int16]:
    """HU (I, J, K) of an abdomen whose kidneys, tumors and cysts are those of a label.

    Only positions come from the label: everything around the kidneys is invented, so such an
    image says nothing about real accuracy. It is rendered in slabs along the body axis; a mask of
    512 x 512 x 1000 voxels needs about 1 GB beside itself and the image.

    Args:
        label: Values 1 kidney, 2 tumor, 3 cyst; at least one voxel of them.
        grid: The label's grid, in any orientation.
        rng: Source of anatomy, texture and noise.
        scanner: Noise, blur, contrast phase and calibration; its spacing plays no part.

    Raises:
        ValueError: If the label is empty.
    """
    if not label.any():
        raise ValueError(
            f"found a label of shape {label.shape} without foreground, expected kidneys around "
            "which an abdomen can be drawn; leave such a case out"
        )
    voxels, spacing_mm = to_ras(label, grid)
    positions = voxel_positions(voxels.shape, spacing_mm)
    extent_mm = as_triple([len(p) * s for p, s in zip(positions, spacing_mm, strict=True)])
    frame = _locate(voxels, spacing_mm)
    abdomen = Abdomen(rng, frame=frame, extent_mm=extent_mm, enhancement=scanner.enhancement)
    kidneys = _measure(voxels, spacing_mm)
    tissue = _draw_tissue(rng, scanner)
    hu = np.empty(voxels.shape, dtype=np.int16)
    halo = int(np.ceil(3 * scanner.blur_mm / spacing_mm[2]))
    thickness = max(1, _SLAB_VOXELS // (voxels.shape[0] * voxels.shape[1]))
    for start in range(0, voxels.shape[2], thickness):
        stop = min(start + thickness, voxels.shape[2])
        first, last = max(0, start - halo), min(voxels.shape[2], stop + halo)
        slab_positions = [positions[0], positions[1], positions[2][first:last]]
        slab, texture = abdomen.paint(slab_positions)
        _paint_kidneys(slab, voxels[:, :, first:last], slab_positions, texture, kidneys, tissue)
        blurred = ndimage.gaussian_filter(slab, [scanner.blur_mm / s for s in spacing_mm])
        kept = blurred[:, :, start - first : stop - first]
        noisy = kept + scanner.hu_shift + _noise(rng, kept.shape, scanner)
        hu[:, :, start:stop] = np.clip(np.rint(noisy), -1024, 3071)
    return np.ascontiguousarray(from_ras(hu, grid))


@dataclass(frozen=True)
class _Tissue:
    """HU of one patient's kidneys and lesions."""

    cortex: float
    medulla: float
    pelvis: float
    tumor: float
    necrosis_depth_mm: float
    cyst: float


def _draw_tissue(rng: np.random.Generator, scanner: Scanner) -> _Tissue:
    """Enhancement differs by scanner and patient; the brightest tumors come near medulla."""
    phase = scanner.enhancement * rng.normal(1.0, 0.08)
    return _Tissue(
        cortex=45.0 + 140.0 * phase,
        medulla=40.0 + 75.0 * phase,
        pelvis=15.0,
        tumor=40.0 + rng.uniform(10.0, 45.0) * phase,
        necrosis_depth_mm=rng.uniform(11.0, 22.0),
        cyst=rng.uniform(-2.0, 14.0),
    )


def _paint_kidneys(
    hu: Field,
    label: NDArray[np.integer[Any]],
    positions: list[Field],
    texture: Field,
    kidneys: _Kidneys,
    tissue: _Tissue,
) -> None:
    """Perirenal fat, sinus, cortex and medulla, tumors and cysts, over what lies there."""
    index = [
        (p - offset) / step
        for p, offset, step in zip(positions, kidneys.offset_mm, kidneys.step_mm, strict=True)
    ]
    box = tuple(
        slice(*np.searchsorted(i, (0, size - 1)))
        for i, size in zip(index, kidneys.outside_mm.shape, strict=True)
    )
    if any(part.start == part.stop for part in box):
        return
    inner = [i[part] for i, part in zip(index, box, strict=True)]
    outside = interpolate(kidneys.outside_mm, inner)
    depth = interpolate(kidneys.depth_mm, inner)
    near, mask, grain = hu[box], label[box], texture[box]
    around = (outside < _PERIRENAL_MM) & (mask == 0) & (near < 150.0)
    near[around] = FAT + 4.0 * grain[around]
    sinus = (mask == 0) & (depth > 7.0)
    near[sinus & (grain > -0.2)] = FAT + 30.0
    near[sinus & (depth > 12.0)] = tissue.pelvis
    # Pyramids: patches of medulla that reach different depths below the cortex
    parenchyma = np.where(depth < 7.0 + 2.5 * grain, tissue.cortex, tissue.medulla) + 4.0 * grain
    kidney = mask == KIDNEY
    near[kidney] = parenchyma[kidney]
    solid = tissue.tumor + 14.0 * grain
    solid = np.where(-outside > tissue.necrosis_depth_mm + 4.0 * grain, 24.0 + 5.0 * grain, solid)
    tumor = mask == TUMOR
    near[tumor] = solid[tumor]
    near[mask == CYST] = tissue.cyst


def _measure(voxels: NDArray[np.integer[Any]], spacing_mm: Triple) -> _Kidneys:
    """Distances around the foreground, on a thinned copy of its bounding box."""
    strides = [max(1, int(_COARSE_MM / step)) for step in spacing_mm]
    step_mm = np.multiply(strides, spacing_mm)
    thin = voxels[:: strides[0], :: strides[1], :: strides[2]]
    foreground = thin > 0
    if not foreground.any():  # smaller than the thinning: measure it as it is
        strides, step_mm, thin = [1, 1, 1], np.array(spacing_mm), voxels
        foreground = thin > 0
    margin = np.ceil((_SINUS_MM + _PERIRENAL_MM) / step_mm).astype(int)
    box = ndimage.find_objects(foreground.astype(np.uint8))[0]
    padded = tuple(
        slice(max(0, part.start - more), part.stop + more)
        for part, more in zip(box, margin, strict=True)
    )
    near = foreground[padded]
    return _Kidneys(
        offset_mm=np.array([part.start for part in padded]) * step_mm,
        step_mm=step_mm,
        outside_mm=signed_distance(near, as_triple(step_mm)),
        depth_mm=_depth(near, as_triple(step_mm)),
    )


def _depth(foreground: Mask, step_mm: Triple) -> Field:
    """Depth below the outer surface: a morphological closing turns the hilum into inside."""
    grown = signed_distance(foreground, step_mm) < _SINUS_MM
    return (-signed_distance(grown, step_mm) - _SINUS_MM).astype(np.float32)


def _locate(voxels: NDArray[np.integer[Any]], spacing_mm: Triple) -> Frame:
    """Where the kidneys' middle is; the midline lies between two, or beside the only one."""
    strides = [max(1, int(4.0 / step)) for step in spacing_mm]
    thin = voxels[:: strides[0], :: strides[1], :: strides[2]]
    if not thin.any():
        strides, thin = [1, 1, 1], voxels
    points = np.argwhere(thin > 0) * np.multiply(strides, spacing_mm)
    sides = points[:, 0]
    split = (sides.min() + sides.max()) / 2
    upper, lower = sides[sides >= split].mean(), sides[sides <= split].mean()
    midline = (upper + lower) / 2
    if upper - lower < 2 * _HALF_APART_MM:
        centre = voxels.shape[0] * spacing_mm[0] / 2
        midline -= np.copysign(_USUAL_HALF_APART_MM, midline - centre)
    level, height = np.median(points[:, 1]), np.median(points[:, 2])
    half_width, half_depth = np.abs(points[:, :2] - (midline, level)).max(axis=0)
    return Frame(
        float(midline), float(level), float(height), (float(half_width), float(half_depth))
    )


def _noise(rng: np.random.Generator, shape: tuple[int, ...], scanner: Scanner) -> Field:
    """Noise of the scanner's SD, correlated within a slice as reconstruction leaves it."""
    white = rng.standard_normal(shape, dtype=np.float32)
    # A kernel (a, 1, a) along an axis has the norm sqrt(1 + 2 a²): dividing keeps the SD
    side = 0.5
    kernel = np.array([side, 1.0, side]) / np.sqrt(1.0 + 2.0 * side**2)
    for axis in (0, 1):
        white = ndimage.convolve1d(white, kernel, axis=axis, mode="wrap")
    return (white * np.float32(scanner.noise)).astype(np.float32)
