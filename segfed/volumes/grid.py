"""Where voxels lie in the patient: a shape and an affine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from segfed.errors import GeometryError

# Cosine of the angle between two voxel axes. Headers round to float32, which gives about 1e-6;
# a CT gantry tilted by a quarter of a degree gives 4e-3.
_MAX_SHEAR = 1e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape (I, J, K) and affine of a volume; the axes are perpendicular to each other.

    Sheared grids (CT with a tilted gantry) are refused: spacing along the axes would not be a
    distance, and ITK-based readers such as 3D Slicer would place the volume elsewhere.

    Raises:
        GeometryError: If the shape or the affine does not describe such a grid.
    """

    shape: tuple[int, int, int]
    """Number of voxels along I, J and K."""

    affine: NDArray[np.float64]
    """4x4, from voxel index to RAS mm; read-only."""

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        _check_shape(self.shape)
        _check_affine(affine)
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "affine", affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along I, J and K, in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel, in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def orientation(self) -> str:
        """Where I, J and K point, as three letters such as ``RAS`` or ``LPS``."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    def matches(self, other: Grid, *, tolerance_mm: float = 1e-2) -> bool:
        """Whether both grids have the same voxels, in the same order and places.

        Two grids of one shape agree when none of their eight corner voxels lies further than
        ``tolerance_mm`` from its counterpart; all other voxels then lie nearer still.
        """
        return self.shape == other.shape and self.corner_distance_mm(other) <= tolerance_mm

    def corner_distance_mm(self, other: Grid) -> float:
        """Largest distance between corresponding corner voxels of two grids of one shape, in mm."""
        distance = np.linalg.norm(self._corners_mm() - other._corners_mm(), axis=1)
        return float(distance.max())

    def describe(self) -> str:
        """The grid in words, for messages."""
        shape = " x ".join(str(size) for size in self.shape)
        spacing = " x ".join(f"{value:.4g}" for value in self.spacing_mm)
        origin = ", ".join(f"{value:.4g}" for value in self.affine[:3, 3])
        return (
            f"shape {shape}, spacing {spacing} mm, orientation {self.orientation}, "
            f"first voxel at ({origin}) mm"
        )

    def _corners_mm(self) -> NDArray[np.float64]:
        """RAS positions (8, 3) of the corner voxels' centres."""
        index = np.array(list(itertools.product(*((0, size - 1) for size in self.shape))))
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3], dtype=np.float64)


def check_same_grid(found: Grid, expected: Grid, *, name: str, reference: str) -> None:
    """Refuse two volumes that must share a grid and do not.

    Args:
        found: Grid of the volume being checked.
        expected: Grid that it must have.
        name: The volume being checked, in words: ``label a.nii.gz of case 7``.
        reference: The volume whose grid counts, in words.

    Raises:
        GeometryError: If the grids differ; both are printed.
    """
    if found.matches(expected):
        return
    apart = ""
    if found.shape == expected.shape:
        apart = f" Their corner voxels lie up to {found.corner_distance_mm(expected):.3g} mm apart."
    raise GeometryError(
        f"The {name} is on another grid than the {reference}. Found {found.describe()}; "
        f"expected {expected.describe()}.{apart} Export it again on the grid of the {reference}, "
        "or resample it to that grid."
    )


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or any(int(size) != size or size < 1 for size in shape):
        raise GeometryError(
            f"Found a grid of shape {tuple(shape)}; expected three axes with at least one voxel "
            "each. Save the volume as one 3D image."
        )


def _check_affine(affine: NDArray[np.float64]) -> None:
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise GeometryError(
            f"Found the affine {affine.tolist()}; expected 4 x 4 finite numbers. The file's header "
            "is damaged: convert the image again from its source."
        )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.array_equal(affine[3], (0, 0, 0, 1)) or spacing.min() == 0:
        raise GeometryError(_not_invertible(affine))
    directions = affine[:3, :3] / spacing
    if abs(np.linalg.det(directions)) < 1e-3:
        raise GeometryError(_not_invertible(affine))
    shear = float(abs(directions.T @ directions - np.eye(3)).max())
    if shear > _MAX_SHEAR:
        degrees = float(np.degrees(np.arcsin(min(shear, 1.0))))
        raise GeometryError(
            f"Found voxel axes that are {degrees:.3g} degrees away from perpendicular (affine "
            f"{affine.tolist()}); expected perpendicular axes. Resample the image to a straight "
            "grid first: dcm2niix, for example, writes such a copy of a CT with a tilted gantry."
        )


def _not_invertible(affine: NDArray[np.float64]) -> str:
    """The message for an affine that maps several voxels to one place."""
    return (
        f"Found the affine {affine.tolist()}, which is singular; expected an invertible map from "
        "voxels to mm with a last row of 0 0 0 1. The orientation in the file's header is damaged: "
        "convert the image again from its source."
    )
