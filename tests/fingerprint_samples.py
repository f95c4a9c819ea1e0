"""Small CT sites with scanners of their own, for the tests of fingerprints and plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segfed.sites import (
    Policy,
    Site,
    SiteSettings,
    add_case,
    create_site,
    load_site,
    submit_label,
)
from segfed.volumes import Grid, Volume


@dataclass(frozen=True)
class CtCase:
    """A CT in RAS order: what its file will hold."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    seed: int = 0
    label_values: tuple[int, ...] = (1, 2)
    labelled: bool = True

    def grid(self) -> Grid:
        return Grid(self.shape, np.diag([*self.spacing_mm, 1.0]))

    def label(self) -> np.ndarray:
        """A block of kidney with some of every other value in it."""
        label = np.zeros((1, *self.shape), dtype=np.uint8)
        label[0, 2:8, 2:9, :] = self.label_values[0]
        for value in self.label_values[1:]:
            label[0, 3 + value : 5 + value, 3:6, :] = value
        return label

    def image(self) -> np.ndarray:
        """Whole HU: fat, and brighter structures, noisy in a way of the case's own."""
        rng = np.random.default_rng(self.seed)
        noise = rng.normal(30 * rng.uniform(-1, 1), 25, size=(1, *self.shape))
        mean_hu = np.array([-100, 120, 60, 10])[self.label()]
        return np.rint(mean_hu + noise).astype(np.float32)

    def inside_hu(self) -> np.ndarray:
        """Intensities of the voxels inside any structure."""
        return self.image()[self.label() > 0]


def make_ct_site(
    folder: Path, name: str, cases: Sequence[CtCase], *, minimum_cases: int = 1
) -> Site:
    """A kidney site whose cases all train, ``<name>0`` first."""
    policy = Policy(minimum_metric_cases=minimum_cases)
    settings = SiteSettings(name=name, task="kidney_tumor", policy=policy)
    site = create_site(folder / name, settings)
    for index, case in enumerate(cases):
        add_case(
            site.folder,
            task=site.task,
            case_id=f"{name}{index}",
            patient_id=f"{name}{index}",
            split="train",
            channels={"ct": Volume(case.image(), case.grid())},
        )
    site = load_site(site.folder)
    for index, case in enumerate(cases):
        if case.labelled:
            label = Volume(case.label(), case.grid())
            submit_label(site, case_id=f"{name}{index}", label=label, origin="manual", reader="ann")
    return site
