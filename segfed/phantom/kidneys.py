"""Kidneys with tumors and cysts, as labels: the truth of synthetic CT cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segfed.phantom.fields import Field, Mask, from_ras, smooth_field, to_ras, voxel_positions
from segfed.volumes import Grid

FIELD_MM = (330.0, 240.0, 190.0)
"""Field of view along R, A and S that shows both kidneys and the body's outline."""

KIDNEY, TUMOR, CYST = 1, 2, 3

# Where the middle of both kidneys lies in the field: the belly needs more room than the back
_CENTRE_SHARE = (0.5, 0.36, 0.5)
_MEDIAL_MM = 66.0  # from the midline to a kidney's centre
_CYST_SHARE = 0.5
_SECOND_TUMOR_SHARE = 0.15


@dataclass(frozen=True)
class _Kidney:
    """One kidney's ellipsoid, in RAS mm about the middle of both kidneys."""

    side: int
    """1 for the patient's right, -1 for the left."""

    centre_mm: NDArray[np.float64]
    axes_mm: NDArray[np.float64]
    """Half lengths along the rows of ``directions``: lateral, anterior, long."""

    directions: NDArray[np.float64]
    """Orthonormal rows: lateral, anterior, long axis."""

    def point(self, local: NDArray[np.float64]) -> NDArray[np.float64]:
        """A place given in units of the half axes."""
        return self.centre_mm + (local * self.axes_mm) @ self.directions


def kidney_case(
    rng: np.random.Generator, grid: Grid, *, lesion_scale: float = 1.0
) -> NDArray[np.uint8]:
    """A label (I, J, K) of two kidneys, one or two tumors, and in half of the cases cysts.

    The kidneys are bean-shaped: an ellipsoid tilted along the psoas with the renal sinus cut out
    of its medial side. Tumors (radius 12 to 38 mm) and cysts (6 to 17 mm) sit on the surface, one
    to three quarters of them outside.

    Args:
        rng: Source of the anatomy.
        grid: Must cover about `FIELD_MM`; smaller grids cut organs off.
        lesion_scale: Factor on the tumors' radii, for sites that see other patients.
    """
    template, spacing_mm = to_ras(np.zeros(grid.shape, dtype=np.uint8), grid)
    positions = [
        axis - share * (len(axis) - 1) * step
        for axis, share, step in zip(
            voxel_positions(template.shape, spacing_mm), _CENTRE_SHARE, spacing_mm, strict=True
        )
    ]
    warp = smooth_field(rng, shape=template.shape, spacing_mm=spacing_mm, correlation_mm=14.0)
    label = np.zeros(template.shape, dtype=np.uint8)
    kidneys = [_draw_kidney(rng, side) for side in (1, -1)]
    for kidney in kidneys:
        label[_parenchyma(kidney, positions, warp, rng)] = KIDNEY
    label[_cysts(kidneys, positions, warp, rng)] = CYST
    n_tumors = 1 + int(rng.uniform() < _SECOND_TUMOR_SHARE)
    for kidney in rng.permutation(np.arange(2))[:n_tumors]:
        radius_mm = float(np.clip(rng.lognormal(np.log(24.0), 0.3) * lesion_scale, 12.0, 38.0))
        centre_mm = _on_surface(kidneys[kidney], radius_mm, rng)
        label[_ball(positions, centre_mm, radius_mm, warp, roughness=0.12)] = TUMOR
    return np.ascontiguousarray(from_ras(label, grid))


def _draw_kidney(rng: np.random.Generator, side: int) -> _Kidney:
    """A kidney of adult size; the right one lies a little lower."""
    tilt, twist = rng.uniform(0.1, 0.3), side * rng.uniform(0.25, 0.6)
    # The lower pole points outwards; the hilum looks forwards as well as to the middle
    long = np.array([-side * np.sin(tilt), -0.15, np.cos(tilt)])
    long /= np.linalg.norm(long)
    lateral = np.array([side * np.cos(twist), -abs(np.sin(twist)), 0.0])
    lateral -= (lateral @ long) * long
    lateral /= np.linalg.norm(lateral)
    anterior = np.cross(long, lateral) * side
    centre_mm = np.array([side * _MEDIAL_MM, 0.0, -side * 7.0]) + rng.normal(0, (4.0, 3.0, 6.0))
    axes_mm = np.array([29.0, 26.0, 54.0]) * rng.normal(1.0, 0.06) * rng.normal(1.0, 0.04, 3)
    return _Kidney(side, centre_mm, axes_mm, np.stack([lateral, anterior, long]))


def _parenchyma(
    kidney: _Kidney, positions: list[Field], warp: Field, rng: np.random.Generator
) -> Mask:
    """The kidney's mask: its ellipsoid without the sinus."""
    body = _radius(positions, kidney.centre_mm, kidney.axes_mm, kidney.directions)
    sinus_mm = kidney.axes_mm * (0.72, 0.36, rng.uniform(0.4, 0.55))
    sinus_centre_mm = kidney.point(np.array([-0.72, 0.12, 0.0]))
    sinus = _radius(positions, sinus_centre_mm, sinus_mm, kidney.directions)
    return (body + 0.05 * warp < 1) & (sinus + 0.12 * warp > 1)


def _cysts(
    kidneys: list[_Kidney], positions: list[Field], warp: Field, rng: np.random.Generator
) -> Mask:
    """One or two cysts in half of the cases."""
    found = np.zeros(warp.shape, dtype=bool)
    if rng.uniform() < _CYST_SHARE:
        for _ in range(rng.integers(1, 3)):
            radius_mm = float(rng.uniform(7.0, 17.0))
            centre_mm = _on_surface(kidneys[rng.integers(2)], radius_mm, rng)
            found |= _ball(positions, centre_mm, radius_mm, warp, roughness=0.03)
    return found


def _on_surface(kidney: _Kidney, radius_mm: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A ball's centre such that a quarter to three quarters of its diameter stick out."""
    direction = rng.normal(size=3) * (1.0, 1.0, 0.8)
    # The middle is taken by vessels and spine: lesions there would be no kidney's
    direction[0] = abs(direction[0]) if rng.uniform() < 0.85 else direction[0] * 0.3
    direction /= np.linalg.norm(direction)
    outward = direction @ kidney.directions
    shift_mm = radius_mm * rng.uniform(-0.5, 0.5)
    return kidney.point(direction) + outward * shift_mm


def _ball(
    positions: list[Field],
    centre_mm: NDArray[np.float64],
    radius_mm: float,
    warp: Field,
    *,
    roughness: float,
) -> Mask:
    """A nearly round mask."""
    axes_mm = np.full(3, radius_mm)
    return _radius(positions, centre_mm, axes_mm, np.eye(3)) + roughness * warp < 1


def _radius(
    positions: list[Field],
    centre_mm: NDArray[np.float64],
    axes_mm: NDArray[np.float64],
    directions: NDArray[np.float64],
) -> Field:
    """Distance from an ellipsoid's centre relative to its surface: 1 on it."""
    x, y, z = (p - c for p, c in zip(positions, centre_mm, strict=True))
    squared = np.zeros((len(x), len(y), len(z)), dtype=np.float32)
    for direction, axis_mm in zip(directions, axes_mm, strict=True):
        along = (
            (direction[0] * x)[:, None, None]
            + (direction[1] * y)[None, :, None]
            + (direction[2] * z)[None, None, :]
        )
        squared += ((along / axis_mm) ** 2).astype(np.float32)
    return np.sqrt(squared)
