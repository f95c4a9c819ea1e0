"""Preprocessed cases on disk: made once, read through memory maps, keyed by what made them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segfed.engine.plan import Plan
from segfed.errors import TrainingError
from segfed.files import replacing
from segfed.sites import LabelledCase
from segfed.volumes import check_same_grid, read_channels, read_label
from transforms import as_metatensor, preprocess

# Enough to draw from at random, whatever the size of a structure.
_POSITIONS_PER_VALUE = 4096


@dataclass(frozen=True)
class PreparedCase:
    """A case as the network sees it; the arrays are memory maps, so that memory stays flat."""

    case_id: str
    image_sha256: str
    image: NDArray[np.float32]
    """Shape (C, I, J, K), on RAS axes at the plan's spacing."""

    label: NDArray[np.uint8]
    """Shape (I, J, K)."""

    positions: NDArray[np.int32]
    """Shape (N, 4): label value and index I, J, K of a sample of the voxels of each structure,
    sorted by value."""


def prepare(
    cases: Sequence[LabelledCase], plan: Plan, cache_folder: Path, *, workers: int = 2
) -> tuple[PreparedCase, ...]:
    """Preprocessed cases, taken from the cache where they lie there already.

    The files' names hold the hashes of image, label and preprocessing settings: whatever changes
    gets new files, and an interrupted call goes on where it stopped.

    Args:
        cases: Cases with the labels to train on.
        plan: Settings of the preprocessing.
        cache_folder: Where the files go; the caller may delete it at any time.
        workers: Cases preprocessed at the same time, each in memory as a whole.

    Raises:
        VolumeError: If an image or label cannot be read.
        GeometryError: If a label does not lie on its image's grid.
        TrainingError: If the disk is full.
    """
    # Threads: reading, unpacking and resampling all let others run.
    with ThreadPoolExecutor(workers) as pool:
        return tuple(pool.map(lambda case: _prepare_case(case, plan, cache_folder), cases))


def _prepare_case(labelled: LabelledCase, plan: Plan, folder: Path) -> PreparedCase:
    hashes = (
        labelled.case.image_sha256,
        labelled.record.label_sha256,
        plan.preprocessing_sha256,
    )
    stem = "-".join(value[:16] for value in hashes)
    paths = [folder / f"{stem}.{part}.npy" for part in ("image", "label", "positions")]
    if not all(path.exists() for path in paths):
        try:
            for path, array in zip(paths, _preprocessed(labelled, plan), strict=True):
                with replacing(path) as temporary:
                    np.save(temporary, array)
        except OSError as error:
            raise TrainingError(
                f"Case {labelled.case.case_id}: its preprocessed voxels cannot be written to "
                f"{folder} ({error.strerror}). Free some space there, or choose another folder."
            ) from error
    image, label, positions = (_mapped(path) for path in paths)
    return PreparedCase(labelled.case.case_id, labelled.case.image_sha256, image, label, positions)


def _mapped(path: Path) -> NDArray[Any]:
    """The array in a file, of which only what is looked at is read; read-only.

    ``np.load`` alone would keep each file open: some 340 cases of three files each reach the usual
    limit of 1024. PyTorch closes a file that it has mapped.
    """
    header = np.load(path, mmap_mode="r")
    content = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    array: NDArray[Any] = np.ndarray(
        header.shape,
        header.dtype,
        buffer=content.numpy(),
        offset=header.offset,
        strides=header.strides,
    )
    array.flags.writeable = False
    return array


def _preprocessed(labelled: LabelledCase, plan: Plan) -> tuple[NDArray[Any], ...]:
    """Image (C, I, J, K), label (I, J, K) and positions (N, 4) of a case."""
    image = read_channels(labelled.case.channels)
    label = read_label(labelled.label_path)
    check_same_grid(
        label.grid,
        image.grid,
        name=f"label of case {labelled.case.case_id}",
        reference="image",
    )
    result = preprocess(spacing_mm=plan.spacing_mm, window_hu=plan.window_hu)(
        {
            "image": as_metatensor(image.data, image.grid.affine),
            "label": as_metatensor(label.data, image.grid.affine),
        }
    )
    values = result["label"].numpy()[0].astype(np.uint8)
    return result["image"].numpy().astype(np.float32), values, label_positions(values)


def label_positions(label: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Evenly spread voxels of every structure in a label.

    Returns:
        Shape (N, 4), a label value and an index I, J, K a row, sorted by value; empty where nothing
        is labelled.
    """
    rows = [np.zeros((0, 4), dtype=np.int32)]
    for value in np.unique(label[label > 0]):
        index = np.argwhere(label == value)
        chosen = index[:: max(1, -(-len(index) // _POSITIONS_PER_VALUE))]
        rows.append(np.insert(chosen, 0, value, axis=1).astype(np.int32))
    return np.concatenate(rows)
