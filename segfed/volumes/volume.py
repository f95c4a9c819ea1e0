"""Voxels together with the grid on which they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from segfed.errors import GeometryError
from segfed.volumes.grid import Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values (C, I, J, K) on a grid; the memory order is that of the file.

    Raises:
        GeometryError: If the array does not have one axis of channels and then the grid's shape.
    """

    data: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        if self.data.ndim != 4 or self.data.shape[1:] != self.grid.shape:
            raise GeometryError(
                f"Found voxels of shape {self.data.shape}; expected (channels, I, J, K) on a grid "
                f"of {self.grid.describe()}. Put the channels first, and don't crop or transpose "
                "voxels without their grid."
            )
