"""Simulated readers: contours with errors of known size, and corrections of proposals.

Nothing here is a measurement of people. Contour errors and seconds come from stated parameters,
so that a study on phantoms has a known truth to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Bounded
from pydantic import NonNegativeFloat, PositiveFloat
from scipy import ndimage

from segfed.phantom.fields import Field, Mask, signed_distance, smooth_field
from segfed.settings import Settings, load_toml

READER_FILE = Path("phantom") / "reader.toml"
"""Where a synthetic site keeps the habits of its reader."""

_ANY_NEIGHBOUR = np.ones((3, 3, 3), dtype=bool)
_MM2_PER_CM2 = 100.0


class Reader(Settings):
    """A reader's habits."""

    name: str
    contour_sd_mm: NonNegativeFloat = 1.5
    """SD of the contour's random displacement along its normal."""

    bias_mm: float = 0.0
    """Mean displacement of the outer contour: positive draws too large."""

    correlation_mm: PositiveFloat = 12.0
    """How far along the contour an error stretches."""

    notice_mm: NonNegativeFloat = 4.0
    """A proposal whose contour lies further than this from the reader's own is redrawn there."""

    reach_mm: NonNegativeFloat = 10.0
    """How far around a noticed voxel the contour is redrawn."""

    redraws_all: bool = False
    """Whether everything is drawn as by hand, but for the regions that anchoring leaves."""

    anchoring: Annotated[float, Bounded(ge=0, le=1)] = 0.0
    """Probability of leaving a region that the reader would otherwise have redrawn."""

    small_anchoring: Annotated[float, Bounded(ge=0, le=1)] = 0.0
    """The same probability for regions below `small_mm3`, where it is the larger one."""

    small_mm3: NonNegativeFloat = 2000.0

    view_seconds: NonNegativeFloat = 30.0
    """Time to open a case and look through it."""

    region_seconds: NonNegativeFloat = 8.0
    """Time to choose a tool and begin, for every region that is redrawn."""

    seconds_per_cm2: NonNegativeFloat = 2.0
    """Time to draw one cm² of surface."""


@dataclass(frozen=True)
class Drawing:
    """What a reader hands in."""

    label: NDArray[np.uint8]
    """Label values (I, J, K)."""

    edit_seconds: float
    """Simulated: viewing, plus a fixed time a region, plus the drawn surface times a speed."""

    n_regions: int
    """Regions that were drawn or redrawn; 0 means a proposal was accepted unchanged."""


def load_reader(site_folder: Path) -> Reader:
    """The habits of a synthetic site's reader.

    Raises:
        ConfigError: If the site has none (it is not synthetic), or the file is wrong.
    """
    return load_toml(site_folder / READER_FILE, Reader, kind="reader")


def draw(
    truth: NDArray[np.integer[Any]],
    reader: Reader,
    *,
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
) -> Drawing:
    """A label drawn by hand: the truth with every contour smoothly displaced.

    The surface between foreground and background is moved along its normal by a Gaussian random
    field with mean ``bias_mm`` and SD ``contour_sd_mm``; a surface between two label values by one
    with mean 0 and the same SD. Displacements below a voxel move the surface by whole voxels in a
    matching share of places. The mean displacement of an unbiased reader is
    ``contour_sd_mm * sqrt(2 / pi)``; where the surface bends more sharply than that, less of it
    shows as distance. Without error the truth comes back unchanged.

    Args:
        truth: Label values (I, J, K).
        reader: Whose habits.
        spacing_mm: Along I, J and K.
        rng: Source of the errors.
    """
    label = _displaced(truth, reader, spacing_mm=spacing_mm, rng=rng)
    n_regions = int(ndimage.label(label > 0, structure=_ANY_NEIGHBOUR)[1])
    everywhere = np.ones(label.shape, dtype=bool)
    seconds = _seconds(reader, label, everywhere, n_regions=n_regions, spacing_mm=spacing_mm)
    return Drawing(label, seconds, n_regions)


def correct(
    proposal: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    reader: Reader,
    *,
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
) -> Drawing:
    """A proposal corrected where its error is noticeable, and left as it is elsewhere.

    The reader compares the proposal with the contour that they would have drawn themselves. A
    wrong voxel's error is the distance by which the contour would have to move to put it right.
    Voxels whose error exceeds ``notice_mm`` form regions; each is left with probability
    ``anchoring`` (a small one also with ``small_anchoring``), and otherwise all wrong voxels
    within ``reach_mm`` of it are redrawn; a reader who redraws all draws everything but the
    regions left. With nothing to redraw the very same label comes back:
    the proposal was accepted.

    Args:
        proposal: Label values (I, J, K) that the reader is shown.
        truth: Label values on the same grid.
        reader: Whose habits.
        spacing_mm: Along I, J and K.
        rng: Source of the reader's own contour and of what is left by anchoring.
    """
    own = _displaced(truth, reader, spacing_mm=spacing_mm, rng=rng)
    noticed = _error_mm(proposal, own, spacing_mm) > reader.notice_mm
    regions, n_found = ndimage.label(noticed, structure=_ANY_NEIGHBOUR)
    volumes_mm3 = np.bincount(regions.ravel())[1:] * np.prod(spacing_mm)
    of_small = max(reader.anchoring, reader.small_anchoring)
    leaving = np.where(volumes_mm3 < reader.small_mm3, of_small, reader.anchoring)
    kept = np.flatnonzero(rng.uniform(size=n_found) >= leaving) + 1
    if reader.redraws_all:
        left = np.setdiff1d(np.arange(1, n_found + 1), kept)
        redrawn = (proposal != own) & ~_near(regions, left, reader, spacing_mm)
    else:
        redrawn = (proposal != own) & _near(regions, kept, reader, spacing_mm)
    if not redrawn.any():
        return Drawing(np.array(proposal, dtype=np.uint8), reader.view_seconds, 0)
    label = np.where(redrawn, own, proposal).astype(np.uint8)
    n_redrawn = max(len(kept), 1)
    seconds = _seconds(reader, label, redrawn, n_regions=n_redrawn, spacing_mm=spacing_mm)
    return Drawing(label, seconds, n_redrawn)


def _near(
    regions: NDArray[np.integer[Any]],
    numbers: NDArray[np.integer[Any]],
    reader: Reader,
    spacing_mm: Sequence[float],
) -> Mask:
    """The voxels within the reader's reach of some regions; none without a region."""
    if not len(numbers):
        return np.zeros(regions.shape, dtype=bool)
    near: Mask = signed_distance(np.isin(regions, numbers), spacing_mm) <= reader.reach_mm
    return near


def _displaced(
    truth: NDArray[np.integer[Any]],
    reader: Reader,
    *,
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """The truth with its contours moved; see `draw`."""
    label = np.zeros(truth.shape, dtype=np.uint8)
    if not truth.any():
        return label
    # Nothing moves further than four SD plus the bias: the rest of the image stays background
    margin_mm = 4 * reader.contour_sd_mm + abs(reader.bias_mm)
    box = _box(truth > 0, margin_mm=margin_mm, spacing_mm=spacing_mm)
    label[box] = _displaced_box(truth[box], reader, spacing_mm=spacing_mm, rng=rng)
    return label


def _box(
    mask: Mask, *, margin_mm: float, spacing_mm: Sequence[float]
) -> tuple[slice, slice, slice]:
    """The part of an image that holds a mask and a margin of at least two voxels around it."""
    i, j, k = (
        slice(max(0, part.start - more), part.stop + more)
        for part, more in zip(
            ndimage.find_objects(mask.astype(np.uint8))[0],
            [2 + int(margin_mm / step) for step in spacing_mm],
            strict=True,
        )
    )
    return i, j, k


def _displaced_box(
    truth: NDArray[np.integer[Any]],
    reader: Reader,
    *,
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """The truth, which has foreground, with its contours moved."""
    label = np.zeros(truth.shape, dtype=np.uint8)
    values = [int(value) for value in np.unique(truth) if value != 0]

    def displacement(sd_mm: float) -> Field:
        field = smooth_field(
            rng,
            shape=truth.shape,
            spacing_mm=spacing_mm,
            correlation_mm=reader.correlation_mm,
        )
        return (field * np.float32(sd_mm)).astype(np.float32)

    outer = displacement(reader.contour_sd_mm) + np.float32(reader.bias_mm)
    inside = _fine_distance(truth > 0, spacing_mm) < outer
    # The surface between two values lies where their two distances, each shifted by its own
    # displacement, are equal: it moves by half the difference, so each needs sqrt(2) times the SD.
    shifted = [
        _fine_distance(truth == value, spacing_mm)
        - displacement(reader.contour_sd_mm * np.sqrt(2.0) if len(values) > 1 else 0.0)
        for value in values
    ]
    nearest = np.array(values, dtype=np.uint8)[np.argmin(shifted, axis=0)]
    label[inside] = nearest[inside]
    return label


def _fine_distance(mask: Mask, spacing_mm: Sequence[float]) -> Field:
    """Signed distance that varies below a voxel, with the sign of the mask kept everywhere.

    Whole-voxel distances would make all displacements below half a voxel vanish. Smoothing the
    distance recovers where between two centres a curved surface must have passed.
    """
    distance = signed_distance(mask, spacing_mm)
    smooth = ndimage.gaussian_filter(distance, 0.8)
    return np.where(mask, np.minimum(smooth, -1e-3), np.maximum(smooth, 1e-3)).astype(np.float32)


def _error_mm(
    proposal: NDArray[np.integer[Any]], own: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> Field:
    """How far the contour must move to put each wrong voxel right; 0 where nothing is wrong.

    That is the distance to the nearest voxel where the reader, too, sees the proposed value.
    """
    error = np.zeros(own.shape, dtype=np.float32)
    wrong = proposal != own
    for value in np.unique(proposal[wrong]):
        here = wrong & (proposal == value)
        error[here] = signed_distance(own == value, spacing_mm)[here]
    return error


def _seconds(
    reader: Reader,
    label: NDArray[np.uint8],
    drawn: Mask,
    *,
    n_regions: int,
    spacing_mm: Sequence[float],
) -> float:
    """Working time for the surface of a label inside the drawn voxels."""
    area_mm2 = 0.0
    for axis in range(3):
        face_mm2 = float(np.prod(spacing_mm)) / spacing_mm[axis]
        crosses = np.diff(label, axis=axis) != 0
        first, second = (
            np.take(drawn, range(start, drawn.shape[axis] - 1 + start), axis) for start in (0, 1)
        )
        area_mm2 += face_mm2 * int((crosses & (first | second)).sum())
    drawing = reader.seconds_per_cm2 * area_mm2 / _MM2_PER_CM2
    return round(reader.view_seconds + reader.region_seconds * n_regions + drawing, 1)
