"""How images of one hospital differ from those of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat

from segfed.settings import Settings
from segfed.volumes import Grid


class Scanner(Settings):
    """A scanner and its protocol. The defaults are a sharp image without any defect."""

    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    """Voxel spacing, in mm, along the RAS axes."""

    orientation: Literal["RAS", "LPS"] = "RAS"
    """Order in which the voxels are stored."""

    noise: NonNegativeFloat = 0.0
    """SD of the noise: in HU for CT, as a share of white matter's signal for MR."""

    blur_mm: NonNegativeFloat = 0.0
    """SD of the Gaussian by which a point is spread."""

    enhancement: PositiveFloat = 1.0
    """CT: contrast agent in cortex and vessels, 1 for a late arterial phase."""

    hu_shift: float = 0.0
    """CT: error of calibration, in HU."""

    gamma: PositiveFloat = 1.0
    """MR: exponent applied to the normalised signal, which changes contrasts between tissues."""

    bias_field: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """MR: SD of the smooth relative error of signal across the head."""

    def grid(self, field_mm: Sequence[float]) -> Grid:
        """The voxel grid of a scan that covers a field (R, A, S), in mm, about the origin."""
        shape = [
            max(1, round(size / step)) for size, step in zip(field_mm, self.spacing_mm, strict=True)
        ]
        signs = np.array([1.0, 1.0, 1.0] if self.orientation == "RAS" else [-1.0, -1.0, 1.0])
        steps = signs * self.spacing_mm
        affine = np.diag([*steps, 1.0])
        affine[:3, 3] = -steps * (np.array(shape) - 1) / 2
        return Grid((shape[0], shape[1], shape[2]), affine)


def draw_scanners(
    modality: Literal["CT", "MR"],
    *,
    n_scanners: int,
    spacing_mm: float,
    rng: np.random.Generator,
) -> tuple[Scanner, ...]:
    """Scanners that differ from each other in every property.

    Each property's range is cut into as many strata as there are scanners and every stratum is
    used once (Latin hypercube), so that few sites still span the range for every seed.

    Args:
        modality: Which properties matter.
        n_scanners: How many.
        spacing_mm: Nominal voxel spacing; scanners lie between 0.85 and 1.15 of it in the plane
            and between 0.9 and 1.2 across slices.
        rng: Source of the draw.
    """

    def spread(low: float, high: float) -> list[float]:
        strata = (rng.permutation(n_scanners) + rng.uniform(0.25, 0.75, n_scanners)) / n_scanners
        return [round(float(low + (high - low) * share), 3) for share in strata]

    in_plane, through = spread(0.85, 1.15), spread(0.9, 1.2)
    noise = spread(8.0, 32.0) if modality == "CT" else spread(0.02, 0.08)
    blur = spread(0.4, 0.8)
    enhancement, hu_shift = spread(0.65, 1.25), spread(-18.0, 18.0)
    gamma, bias_field = spread(0.7, 1.4), spread(0.05, 0.3)
    scanners = []
    for index in range(n_scanners):
        plane_mm = round(spacing_mm * in_plane[index], 3)
        slice_mm = round(spacing_mm * through[index], 3)
        common = {
            "spacing_mm": (plane_mm, plane_mm, slice_mm),
            "orientation": ("RAS", "LPS")[index % 2],
            "noise": noise[index],
            "blur_mm": round(blur[index] * spacing_mm, 3),
        }
        own = (
            {"enhancement": enhancement[index], "hu_shift": hu_shift[index]}
            if modality == "CT"
            else {"gamma": gamma[index], "bias_field": bias_field[index]}
        )
        scanners.append(Scanner.model_validate(common | own))
    return tuple(scanners)
