"""Text that a NIfTI file carries beside its voxels, which may name a patient."""

from __future__ import annotations

import gzip
import math
import re
import struct
from pathlib import Path
from typing import BinaryIO

import nibabel as nib

from segfed.volumes.nifti import GZIP_LEVEL

_HEADER_BYTES = 348
_VOXELS_AT = 352
_OFFSET_AT = 108
_EXTENSIONS_AT = 348
_TEXTS = {
    "data_type": slice(4, 14),
    "db_name": slice(14, 32),
    "descrip": slice(148, 228),
    "aux_file": slice(228, 252),
    "intent_name": slice(328, 344),
}
"""Where the fields of free text lie in a NIfTI-1 header."""

# Names of programs with a version. Nothing that could be a name, a number of a patient or a date.
_HARMLESS = re.compile(
    r"none|[4-6]\.0(\.\d{1,2})?(:[0-9a-f]{6,40})?"
    r"|(FSL|ITK|SimpleITK|NiBabel|nibabel|dcm2niix?|SPM|MRtrix|ANTs|AFNI|NiftyReg|Slicer)"
    r"([ v:-]*\d{1,2}(\.\d{1,2}){0,3}(:[0-9a-f]{6,40})?)?"
)
_GZIP_FIELDS = {4: "gzip extra field", 8: "gzip file name", 16: "gzip comment"}
_MOST_NAME_BYTES = 4096
_BLOCK_BYTES = 2**20


def text_in_nifti(path: Path) -> tuple[str, ...]:
    """Where a sound ``.nii.gz`` file holds text that might identify somebody; names of fields only.

    Names of programs are none, nor is the file's own name in the gzip header. Looked at are every
    text field of NIfTI-1, extensions, what follows the voxels, and what gzip keeps of the file.
    """
    with gzip.open(path, "rb") as stream:
        header = stream.read(_VOXELS_AT)
        found = [name for name, place in _TEXTS.items() if not _is_harmless(header[place])]
        offset, n_bytes = _voxels(header)
        if header[_EXTENSIONS_AT : _EXTENSIONS_AT + 1] != b"\0" and offset > _VOXELS_AT:
            found.append("extensions")
        stream.seek(offset + n_bytes)
        if stream.read(1):
            found.append("bytes behind the voxels")
    return (*found, *_gzip_texts(path))


def write_without_text(source: Path, target: Path) -> None:
    """Copy a sound ``.nii.gz`` file with the same voxels, bit by bit, and without any text.

    The same source gives the same bytes, whatever it is called.
    """
    with (
        gzip.open(source, "rb") as stream,
        target.open("wb") as file,
        gzip.GzipFile("", "wb", GZIP_LEVEL, fileobj=file, mtime=0) as copy,
    ):
        header = bytearray(stream.read(_HEADER_BYTES))
        offset, n_bytes = _voxels(bytes(header))
        for place in _TEXTS.values():
            header[place] = bytes(place.stop - place.start)
        struct.pack_into(f"{_order(header)}f", header, _OFFSET_AT, _VOXELS_AT)
        copy.write(header.ljust(_VOXELS_AT, b"\0"))
        stream.seek(offset)
        while n_bytes and (block := stream.read(min(_BLOCK_BYTES, n_bytes))):
            copy.write(block)
            n_bytes -= len(block)


def _is_harmless(field: bytes) -> bool:
    """Whether a field of text says nothing but by what program it was written."""
    text = field.replace(b"\0", b" ").decode("latin-1").strip()
    return not text or _HARMLESS.fullmatch(text) is not None


def _order(header: bytes | bytearray) -> str:
    """Byte order, from the header's own length, which comes first."""
    return "<" if header[:4] == _HEADER_BYTES.to_bytes(4, "little") else ">"


def _voxels(header: bytes) -> tuple[int, int]:
    """Where the voxels begin, and how many bytes they take."""
    parsed = nib.Nifti1Header(header[:_HEADER_BYTES], check=False)
    n_voxels = math.prod(parsed.get_data_shape())
    # Some programs write 0 for the usual place.
    return max(int(parsed["vox_offset"]), _VOXELS_AT), n_voxels * parsed.get_data_dtype().itemsize


def _gzip_texts(path: Path) -> list[str]:
    """What a gzip header (RFC 1952) holds beside the file's own name."""
    with path.open("rb") as file:
        flags = file.read(10)[3]
        found = [name for bit, name in _GZIP_FIELDS.items() if flags & bit]
        if flags & 0b11100 == 8 and _name(file) in (path.name, path.name.removesuffix(".gz")):
            found.remove(_GZIP_FIELDS[8])
    return found


def _name(file: BinaryIO) -> str:
    """The name that follows the ten bytes of a gzip header without an extra field."""
    return file.read(_MOST_NAME_BYTES).partition(b"\0")[0].decode("latin-1")
