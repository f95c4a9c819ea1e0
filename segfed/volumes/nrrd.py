"""NRRD files (.nrrd), read and written by ITK."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import DTypeLike, NDArray

from segfed.errors import GeometryError, VolumeError
from segfed.volumes.grid import Grid

_log = logging.getLogger(__name__)

_MAX_REASON = 100  # ITK quotes whole lines of files that aren't text
# ITK stores LPS: flip the first two axes.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read(path: Path, *, dtype: DTypeLike = None) -> tuple[NDArray[Any], Grid]:
    """Voxels (I, J, K) and grid of a file.

    Args:
        path: An existing file.
        dtype: Type of the voxels; None keeps the stored type.

    Raises:
        VolumeError: If the file is damaged or not one 3D image of real numbers.
        GeometryError: If its orientation is not that of a grid.
    """
    grid = read_grid(path)
    with _explained(path):
        image = sitk.ReadImage(str(path), imageIO="NrrdImageIO")
    voxels = sitk.GetArrayFromImage(image).T  # from K, J, I
    with np.errstate(over="ignore"):  # too large for float32: infinite, and refused as such
        voxels = voxels.astype(dtype or voxels.dtype, copy=False)
    return voxels.reshape(grid.shape, order="A"), grid


def read_grid(path: Path) -> Grid:
    """Grid of a file, from its header alone; raises as ``read`` does."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(str(path))
    _check_attached(path)
    with _explained(path):
        reader.ReadImageInformation()
    return _grid(reader, path)


def write(path: Path, voxels: NDArray[Any], grid: Grid) -> None:
    """Write voxels (I, J, K) in their own type, compressed; same content, same bytes."""
    image = sitk.GetImageFromArray(voxels.T)
    linear = _LPS_TO_RAS @ grid.affine[:3, :3]
    image.SetSpacing(grid.spacing_mm)
    image.SetDirection((linear / grid.spacing_mm).ravel().tolist())
    image.SetOrigin((_LPS_TO_RAS @ grid.affine[:3, 3]).tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def _check_attached(path: Path) -> None:
    """Refuse a header that names other files, which ITK would read from wherever they lie."""
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                return
            field = line.partition(b":")[0].replace(b" ", b"").strip().lower()
            if field == b"datafile":
                raise VolumeError(
                    f"Found {line.strip()[:_MAX_REASON]!r} in {path}; expected the voxels in the "
                    "file itself. Save the image as one file."
                )


def _grid(reader: sitk.ImageFileReader, path: Path) -> Grid:
    """Grid of a header that announces one 3D image of real numbers."""
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if reader.GetNumberOfComponents() != 1 or "complex" in kind:
        raise VolumeError(
            f"Found {reader.GetNumberOfComponents()} components of type {kind} a voxel in {path}; "
            "expected one real number a voxel. Save the image as gray values: colours and complex "
            "numbers are not read."
        )
    shape, n_axes = reader.GetSize(), reader.GetDimension()
    if n_axes < 3 or any(size != 1 for size in shape[3:]):
        raise VolumeError(
            f"Found an image of shape {shape} in {path}; expected one 3D image. Save each time "
            "point or channel as a file of its own, and a segmentation as one label map."
        )
    if "NRRD_space" not in reader.GetMetaDataKeys():
        _log.warning(
            "%s does not say how the patient lay (no space field): taking the axes as LPS. Left "
            "and right may be swapped; convert the image again from its source.",
            path,
        )
    direction = np.reshape(reader.GetDirection(), (n_axes, n_axes))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ direction * reader.GetSpacing()[:3]
    affine[:3, 3] = _LPS_TO_RAS @ reader.GetOrigin()[:3]
    try:
        return Grid(shape[:3], affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what ITK raises on damaged files into our own error."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].removeprefix("[nrrd] ")[:_MAX_REASON]
        raise VolumeError(
            f"Cannot read {path} ({path.stat().st_size} bytes) as NRRD: {reason}. Expected a "
            "complete NRRD file. Copy the file again, or convert it again from its source."
        ) from error
