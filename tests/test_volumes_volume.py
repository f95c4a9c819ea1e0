"""Voxels and grid belong together."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.errors import GeometryError
from segfed.volumes import Volume
from tests.volumes_samples import SHAPE, make_grid


def test_voxels_are_kept_without_a_copy():
    data = np.zeros((4, *SHAPE), dtype=np.float32)

    assert Volume(data, make_grid()).data is data


@pytest.mark.parametrize("shape", [SHAPE, (1, 5, 9, 7), (1, 1, *SHAPE)])
def test_voxels_of_another_shape_than_the_grid_are_refused(shape):
    with pytest.raises(GeometryError, match=r"Found voxels of shape .*5 x 7 x 9.*channels first"):
        Volume(np.zeros(shape), make_grid())
