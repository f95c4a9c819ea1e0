"""Tiny prepared cases and plans that the tests of `segfed.engine` share."""

from __future__ import annotations

from typing import Any

import numpy as np

from segfed.engine import Plan, PreparedCase, read_plan
from segfed.engine.cache import label_positions

SHAPE = (20, 24, 16)


def sample_plan(**changes: Any) -> Plan:
    """An organ (1) with a core (2), in one MR channel."""
    return read_plan(
        {
            "task": "pebble",
            "modality": "MR",
            "channels": ["t1"],
            "labels": {"shell": 1, "core": 2},
            "structures": {"pebble": [1, 2], "core": [2]},
            "window_hu": None,
            "spacing_mm": [1.0, 1.0, 1.0],
            "patch_voxels": [16, 24, 16],
            "features": [8, 16],
            "batch_size": 2,
            "learning_rate": 1e-2,
            **changes,
        }
    )


def ellipsoid(shape: tuple[int, int, int], centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Boolean mask of an ellipsoid, in voxels."""
    offset = np.moveaxis(np.indices(shape), 0, -1) - centre
    return np.asarray(((offset / radii) ** 2).sum(axis=-1) <= 1)


def sample_arrays(
    seed: int, *, shape: tuple[int, int, int] = SHAPE
) -> tuple[np.ndarray, np.ndarray]:
    """Image (1, I, J, K) and label (I, J, K): a bright pebble with a brighter core, and noise."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, size=3)
    radii = rng.uniform(4.5, 6.5, size=3)
    label = ellipsoid(shape, centre, radii).astype(np.uint8)
    label[ellipsoid(shape, centre, radii / 2)] = 2
    image = np.array([-0.5, 1.0, 2.5])[label] + rng.normal(scale=0.3, size=shape)
    return image[None].astype(np.float32), label


def sample_cases(n_cases: int = 4, *, shape: tuple[int, int, int] = SHAPE) -> list[PreparedCase]:
    """Prepared cases that differ in place and size of the pebble."""
    cases = []
    for seed in range(n_cases):
        image, label = sample_arrays(seed, shape=shape)
        cases.append(PreparedCase(f"case{seed}", str(seed), image, label, label_positions(label)))
    return cases
