"""Grids and files that the tests of `segfed.volumes` and `transforms` share.

Axis lengths, and spacings, all differ, so that code which swaps two axes fails.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from segfed.volumes import Grid, Volume

SHAPE = (5, 7, 9)

STRAIGHT = [[1.0, 0, 0, 10], [0, 1.5, 0, -20], [0, 0, 3.0, 30], [0, 0, 0, 1]]

# As the BraTS files lie: I runs to the left, J to the back.
LPS = [[-1.0, 0, 0, 4], [0, -1.5, 0, 9], [0, 0, 3.0, 30], [0, 0, 0, 1]]

# As the KiTS files lie: I runs down, J to the back, K to the left.
IPL = [[0, 0, -0.75, 6], [0, -0.75, 0, 2], [-3.0, 0, 0, 0], [0, 0, 0, 1]]

# Two turns with sides 3, 4, 5: about z with cosine 0.6 and sine 0.8, times about x with cosine 0.8
# and sine 0.6, is [[0.6, -0.64, 0.48], [0.8, 0.48, -0.36], [0, 0.6, 0.8]]. Columns times spacing.
OBLIQUE_SPACING_MM = (1.0, 1.5, 3.0)
OBLIQUE_DIRECTION = np.array([[0.6, -0.64, 0.48], [0.8, 0.48, -0.36], [0, 0.6, 0.8]])
OBLIQUE = [[0.6, -0.96, 1.44, 10], [0.8, 0.72, -1.08, -20], [0, 0.9, 2.4, 30], [0, 0, 0, 1]]

AFFINES = {"straight": STRAIGHT, "LPS": LPS, "IPL": IPL, "oblique": OBLIQUE}


def make_grid(affine: ArrayLike = OBLIQUE, *, shape: tuple[int, int, int] = SHAPE) -> Grid:
    """A grid from nested numbers."""
    return Grid(shape, np.array(affine, dtype=np.float64))


def make_label(affine: ArrayLike = OBLIQUE, *, highest: int = 3) -> Volume:
    """A label without any symmetry: every voxel drawn on its own."""
    values = np.random.default_rng(0).integers(0, highest + 1, (1, *SHAPE))
    return Volume(values.astype(np.uint8), make_grid(affine))


def make_image(affine: ArrayLike = OBLIQUE, *, seed: int = 0) -> Volume:
    """Random intensities as float32."""
    values = np.random.default_rng(seed).normal(100, 20, (1, *SHAPE))
    return Volume(values.astype(np.float32), make_grid(affine))


def save_nifti(path: Path, voxels: NDArray[np.generic], affine: ArrayLike = STRAIGHT) -> Path:
    """A file as other programs write it: through nibabel, not through our own writer."""
    image = nib.Nifti1Image(voxels, np.array(affine, dtype=np.float64))
    image.set_qform(image.affine, code=1)
    nib.save(image, path)
    return path
