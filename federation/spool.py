"""The updates of a round on disk, read back in pieces: memory does not grow with the sites."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federation.messages import Weights

BLOCK = 2**18
"""Weights that are read at once: 64 sites of a float32 model take 64 MiB."""


@dataclass(frozen=True)
class Piece:
    """A stretch of one array, as all sites sent it."""

    name: str
    start: int
    stop: int
    offset: int
    """Bytes before it in a site's file."""

    dtype: np.dtype[np.generic]


class Spool:
    """One file a site: the bytes of its arrays, one after the other, in the order of the model.

    What lies here serves one round of one process: another process starts with an empty folder.
    """

    def __init__(self, folder: Path, *, model: Weights) -> None:
        """Empty the folder.

        Args:
            folder: Where to write; whatever lies there is deleted.
            model: Names, shapes and types that every update has.
        """
        self._folder = folder
        self._model = model
        self.clear()
        folder.mkdir(parents=True)

    def add(self, site: str, weights: Weights) -> None:
        """Write a site's update, which was checked against the model."""
        with self._path(site).open("wb") as handle:
            for name in self._model:
                np.ascontiguousarray(weights[name]).tofile(handle)

    def read(self, site: str, piece: Piece) -> NDArray[np.generic]:
        """A stretch of one array of a site, flat.

        Read and not mapped: mapped pages would count as the server's memory.
        """
        return np.fromfile(
            self._path(site),
            dtype=piece.dtype,
            count=piece.stop - piece.start,
            offset=piece.offset,
        )

    def weights(self, site: str) -> Weights:
        """All arrays of a site."""
        weights: Weights = {}
        with self._path(site).open("rb") as handle:
            for name, array in self._model.items():
                flat = np.fromfile(handle, dtype=array.dtype, count=array.size)
                weights[name] = flat.reshape(array.shape)
        return weights

    def pieces(self) -> Iterator[Piece]:
        """All stretches of all arrays, in order."""
        before = 0
        for name, array in self._model.items():
            for start in range(0, array.size, BLOCK):
                stop = min(start + BLOCK, array.size)
                offset = before + start * array.itemsize
                yield Piece(name, start, stop, offset, array.dtype)
            before += array.nbytes

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, site: str) -> Path:
        """A site's file."""
        return self._folder / f"{site}.update"
