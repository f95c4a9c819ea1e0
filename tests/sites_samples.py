"""Small volumes, tasks and sites that the tests of `segfed.sites` share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from segfed.protocol import Split
from segfed.sites import NewLabel, Site, SiteSettings, add_case, create_site, load_site
from segfed.volumes import Grid, Volume

SHAPE = (7, 6, 5)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

TASK_TOML = """
name = "bean"
title = "Beans in made-up MR"
modality = "MR"
channels = ["t1"]
[channel_aliases]
t1w = "t1"
[labels]
skin = 1
core = 2
[structures]
bean = [1, 2]
core = [2]
[tolerance_mm]
core = 0.5
[remaps.garden]
1 = 1
4 = 2
[plan]
spacing_mm = [1.0, 1.0, 1.0]
patch_voxels = [8, 8, 8]
features = [4, 8]
"""

SEGMENTS = [{"name": "skin", "idx": 1}, {"name": "core", "idx": 2}]
"""The task's labels as 3D Slicer lists its segments."""


def make_grid(*, shift_mm: float = 0.0) -> Grid:
    """Three different axis lengths and spacings, turned by 90 degrees: I runs to the back."""
    affine = np.array(
        [[0, 1.5, 0, -3 + shift_mm], [-1.0, 0, 0, 2], [0, 0, 2.5, 7], [0, 0, 0, 1]], dtype=float
    )
    return Grid(SHAPE, affine)


def make_image(seed: int = 0) -> Volume:
    """Random intensities."""
    data = np.random.default_rng(seed).normal(100, 20, size=(1, *SHAPE)).astype(np.float32)
    return Volume(data, make_grid())


def make_label(core_value: int = 2, *, size: int = 3) -> Volume:
    """A block of skin, ``size`` voxels long, with a core of one voxel."""
    data = np.zeros((1, *SHAPE), dtype=np.uint8)
    data[0, 1 : 1 + size, 1:4, 1:4] = 1
    data[0, 2, 2, 2] = core_value
    return Volume(data, make_grid())


def write_task(folder: Path) -> Path:
    """The bean task as a file."""
    path = folder / "bean.toml"
    path.write_text(TASK_TOML)
    return path


def make_site(folder: Path, *, splits: tuple[Split, ...] = ("train", "test")) -> Site:
    """A site of the bean task with one case a split, ``case0`` first, and no labels."""
    site = create_site(folder / "north", SiteSettings(name="north", task=str(write_task(folder))))
    for index, split in enumerate(splits):
        add_case(
            site.folder,
            task=site.task,
            case_id=f"case{index}",
            patient_id=f"patient{index}",
            split=split,
            channels={"t1": make_image(index)},
        )
    return load_site(site.folder)


def new_label(label_sha256: str, **changes: object) -> NewLabel:
    """A hand label of ``case0``, as a caller gives it."""
    fields: dict[str, object] = {
        "case_id": "case0",
        "image_sha256": "1" * 64,
        "label_sha256": label_sha256,
        "origin": "manual",
        "arm": "manual",
        "reader": "ann",
        "submitted_at": NOON,
    }
    return NewLabel(**(fields | changes))  # type: ignore[arg-type]
