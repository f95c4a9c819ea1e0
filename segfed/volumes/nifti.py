"""NIfTI-1 files (.nii, .nii.gz)."""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import DTypeLike, NDArray

from segfed.errors import GeometryError, VolumeError
from segfed.volumes.grid import Grid

_log = logging.getLogger(__name__)

# The header's length comes first, in the byte order of the writer.
_BEGINNINGS = ((348).to_bytes(4, "little"), (348).to_bytes(4, "big"))
_BLOCK_BYTES = 2**18
# Where the voxels begin: a few kilobytes of text may come before them, and nothing after them.
_OFFSET_AT = 108
_MOST_TEXT_BYTES = 2**24
_SCANNER = 1  # NIfTI code: the affine leads to the scanner's millimetres
# What nibabel and gzip raise on damaged files; a damaged shape asks for all memory.
_DAMAGE = (OSError, EOFError, zlib.error, ValueError, MemoryError, ImageFileError, HeaderDataError)
# Noise gains nothing from higher levels, and a label is tiny at any.
GZIP_LEVEL = 3


def read(path: Path, *, dtype: DTypeLike = None) -> tuple[NDArray[Any], Grid]:
    """Voxels (I, J, K) and grid of a file.

    Args:
        path: An existing file.
        dtype: Type of the voxels; None keeps the stored type, unless the header scales the values.

    Raises:
        VolumeError: If the file is damaged or not one 3D image of real numbers.
        GeometryError: If its orientation is not that of a grid.
    """
    with _explained(path), _opened(path) as stream:
        image = nib.Nifti1Image.from_stream(stream)
        grid = _grid(image, path)
        with np.errstate(over="ignore"):  # too large for float32: infinite, and refused as such
            voxels = np.asarray(image.dataobj, dtype=dtype)
        _read_to_end(stream)  # gzip verifies its checksum only at the end of the stream
    return voxels.reshape(grid.shape, order="A"), grid


def read_grid(path: Path) -> Grid:
    """Grid of a file, from its header alone; raises as ``read`` does."""
    with _explained(path), _opened(path) as stream:
        return _grid(nib.Nifti1Image.from_stream(stream), path)


def write(path: Path, voxels: NDArray[Any], grid: Grid) -> None:
    """Write voxels (I, J, K) in their own type, unscaled, oriented by both sform and qform.

    The same voxels and grid give the same bytes: the gzip header carries neither name nor time.
    """
    image = nib.Nifti1Image(voxels, grid.affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    image.set_sform(grid.affine, code=_SCANNER)
    image.set_qform(grid.affine, code=_SCANNER)
    with path.open("wb") as file:
        if _is_compressed(path):
            with gzip.GzipFile("", "wb", GZIP_LEVEL, fileobj=file, mtime=0) as stream:
                image.to_stream(stream)
        else:
            image.to_stream(file)


class _GzipStream(gzip.GzipFile):
    """A gzip stream that fills an array block by block, where GzipFile makes a second copy.

    A few bytes of gzip can hold gigabytes, and a damaged header can ask for all of them.
    """

    def read(self, size: int | None = -1) -> bytes:
        """Some bytes; all that are left, or too many, are refused."""
        if size is None or not 0 <= size <= _MOST_TEXT_BYTES:
            raise ValueError(f"its header asks for {size} bytes of text")
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the content goes; returns the number of bytes."""
        view, filled = memoryview(buffer), 0
        while block := self.read(min(_BLOCK_BYTES, len(view) - filled)):
            view[filled : filled + len(block)] = block
            filled += len(block)
        return filled


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """The decompressed content of a file, by its suffix, if it begins as NIfTI-1 does."""
    with _GzipStream(path, "rb") if _is_compressed(path) else path.open("rb") as stream:
        header = stream.read(_OFFSET_AT + 4)
        if header[:4] not in _BEGINNINGS:
            raise ValueError(f"it begins with {header[:4]!r}")
        order = "<f" if header[:4] == _BEGINNINGS[0] else ">f"
        (offset,) = struct.unpack(order, header[_OFFSET_AT:].ljust(4, b"\0"))
        if not offset <= _MOST_TEXT_BYTES:
            raise ValueError(f"its voxels begin at byte {offset:g}")
        stream.seek(0)
        yield stream


def _read_to_end(stream: io.BufferedIOBase) -> None:
    """Read what follows the voxels, up to a bound."""
    n_bytes = 0
    while block := stream.read(_BLOCK_BYTES):
        n_bytes += len(block)
        if n_bytes > _MOST_TEXT_BYTES:
            raise ValueError(f"more than {_MOST_TEXT_BYTES} bytes follow its voxels")


def _is_compressed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _grid(image: Any, path: Path) -> Grid:
    """Grid of a NIfTI image that holds one 3D image of real numbers."""
    dtype = image.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iuf":
        raise VolumeError(
            f"Found voxels of type {dtype} in {path}; expected one real number a voxel. Save the "
            "image as gray values: colours and complex numbers are not read."
        )
    shape = image.shape
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        raise VolumeError(
            f"Found an image of shape {shape} in {path}; expected one 3D image. Save each time "
            "point or channel as a file of its own."
        )
    if image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
        _log.warning(
            "%s does not say how the patient lay (sform and qform code 0): taking the axes as %s. "
            "Left and right may be swapped; convert the image again from its source.",
            path,
            "".join(nib.orientations.aff2axcodes(image.affine)),
        )
    try:
        return Grid(shape[:3], image.affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged file into our own, which say what to do."""
    try:
        yield
    except (VolumeError, GeometryError):
        raise
    except _DAMAGE as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise VolumeError(
            f"Cannot read {path} ({path.stat().st_size} bytes) as NIfTI: {reason}. Expected a "
            "complete NIfTI-1 file, compressed if its name ends in .gz. Copy the file again, or "
            "convert it again from its source."
        ) from error
