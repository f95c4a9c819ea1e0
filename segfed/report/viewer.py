"""The files from which the page's viewer shows test cases: small volumes, and the program itself.

A page that was opened from a disk may not read its neighbours, but it may run them: each case is
a script that hands its volumes over as text. They are loaded when somebody opens the case.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segfed.files import write_text
from segfed.volumes import Volume

VIEWER_FOLDER = "report_files"
"""Beside the page; without it the page still shows its pictures."""

_VENDOR = Path(__file__).parent / "vendor"
_MARGIN_MM = 25.0
_LINE_MM = 1.2
"""About how thick a contour is drawn."""


def start_viewer_folder(run_folder: Path) -> Path:
    """A new folder that holds the viewer's program and its licence."""
    folder = run_folder / VIEWER_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("niivue.umd.js", "NIIVUE-LICENSE.txt"):
        shutil.copyfile(_VENDOR / name, folder / name)
    return folder


def write_case(
    path: Path,
    image: Volume,
    labels: Mapping[str, Volume],
    *,
    window: tuple[float, float],
) -> None:
    """Write one case as a script: the image's surroundings of all labels, and their contours.

    Args:
        path: The script.
        image: One channel.
        labels: ``reference`` and predictions by name, on the image's grid.
        window: Intensities shown as black and white.
    """
    voxels, affine = _as_ras(image)
    seen = {name: _as_ras(label)[0] for name, label in labels.items()}
    spacing_mm = nib.affines.voxel_sizes(affine)
    box = _box(list(seen.values()), spacing_mm)
    # Each voxel as several of the same value, so that contours are thin.
    times = [max(1, round(step / _LINE_MM)) for step in spacing_mm]
    finer = np.diag([*(1 / count for count in times), 1.0])
    finer[:3, 3] = [part.start - 0.5 + 0.5 / count for part, count in zip(box, times, strict=True)]
    low, high = window
    grey = (np.clip((voxels[box] - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    content = {
        "image": _nifti(_repeated(grey, times), affine @ finer),
        "contours": {
            name: _nifti(_contour(_repeated(label, times, box)), affine @ finer)
            for name, label in seen.items()
        },
        "voxelTimes": times,
        "start": _start(seen["reference"][box]),
    }
    write_text(path, f"segfedCase({json.dumps(content)});\n")


def _as_ras(volume: Volume) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels with axes that run about right, front and up, and their affine."""
    # As floats, which hold every label and intensity: NIfTI does not know all types of number.
    stored = nib.Nifti1Image(volume.data[0].astype(np.float32), volume.grid.affine)
    turned = nib.as_closest_canonical(stored)
    return np.asarray(turned.dataobj, dtype=np.float32), np.asarray(turned.affine)


def _repeated(
    voxels: NDArray[Any], times: Sequence[int], box: tuple[slice, slice, slice] | None = None
) -> NDArray[Any]:
    """Each voxel of a part as several along each axis."""
    part = voxels if box is None else voxels[box]
    for axis, count in enumerate(times):
        part = np.repeat(part, count, axis)
    return part


def _box(
    labels: list[NDArray[np.generic]], spacing_mm: Sequence[float]
) -> tuple[slice, slice, slice]:
    """What is labelled and a margin; everything where nothing is."""
    labelled = np.any([label != 0 for label in labels], axis=0)
    found = ndimage.find_objects(labelled.astype(np.uint8))
    whole = tuple(slice(0, size) for size in labelled.shape)
    i, j, k = (
        slice(max(0, part.start - round(_MARGIN_MM / step)), part.stop + round(_MARGIN_MM / step))
        for part, step in zip(found[0] if found else whole, spacing_mm, strict=True)
    )
    return i, j, k


def _contour(label: NDArray[np.generic]) -> NDArray[np.uint8]:
    """255 in each labelled voxel that has another value beside it, along any axis."""
    padded = np.pad(label, 1, mode="edge")
    inner = (slice(1, -1),) * 3
    differs = np.zeros(label.shape, dtype=bool)
    for axis in range(3):
        for step in (-1, 1):
            differs |= np.roll(padded, step, axis)[inner] != label
    return np.where(differs & (label != 0), 255, 0).astype(np.uint8)


def _start(reference: NDArray[np.generic]) -> list[float]:
    """Where to look first, as shares of the axes: where the reference is largest."""
    mask = reference != 0
    if not mask.any():
        return [0.5, 0.5, 0.5]
    level = int(mask.sum(axis=(0, 1)).argmax())
    columns, rows = np.nonzero(mask[:, :, level])
    place = (columns.mean(), rows.mean(), level)
    return [float((at + 0.5) / size) for at, size in zip(place, mask.shape, strict=True)]


def _nifti(voxels: NDArray[np.uint8], affine: NDArray[np.float64]) -> str:
    """Base64 of a compressed NIfTI, the same for the same voxels."""
    content = nib.Nifti1Image(voxels, affine).to_bytes()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")
