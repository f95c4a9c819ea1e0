"""How often ordinary images raise an alarm at prediction, and how often changed ones do.

    python benchmarks/input_drift.py SITE_FOLDER...

The usual range is that of the sites' training cases; the test cases of the same sites are judged,
as they are and changed. Sites are those of ``segfed site import … --format msd``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from segfed.engine import make_plan, prepared_image
from segfed.engine.drift import Features, drift, image_features, input_range
from segfed.sites import load_site, load_task
from segfed.volumes import Grid, Volume, read_channels

ROOT = Path(__file__).resolve().parents[1]
PLAN = make_plan(load_task(ROOT / "docs" / "examples" / "hippocampus" / "hippocampus.toml"))


def scaled_grid(volume: Volume, factor: float) -> Volume:
    """The same voxels with another spacing, as where units are mistaken."""
    affine = volume.grid.affine @ np.diag([factor, factor, factor, 1.0])
    return replace(volume, grid=Grid(volume.grid.shape, affine))


def thick_slices(volume: Volume, step: int) -> Volume:
    """Every so many slices along K."""
    data = volume.data[..., ::step]
    affine = volume.grid.affine @ np.diag([1.0, 1.0, step, 1.0])
    return Volume(data, Grid(data.shape[1:], affine))


def with_intensities(volume: Volume, change: Callable[[np.ndarray], np.ndarray]) -> Volume:
    """Other intensities, from those between 0 and 1."""
    low, high = volume.data.min(), volume.data.max()
    return replace(volume, data=change((volume.data - low) / (high - low)).astype(np.float32))


CHANGES: dict[str, Callable[[Volume], Volume]] = {
    "as they are": lambda volume: volume,
    "intensities times 1000": lambda volume: replace(volume, data=volume.data * 1000),
    "contrast turned round": lambda volume: with_intensities(volume, lambda x: 1.01 - x),
    "contrast squared": lambda volume: with_intensities(volume, lambda x: x**2 + 0.01),
    "half of the voxels black": lambda volume: with_intensities(
        volume, lambda x: np.where(x < np.median(x), 0, x)
    ),
    "every 4th slice": lambda volume: thick_slices(volume, 4),
    "spacing in cm": lambda volume: scaled_grid(volume, 0.1),
    "spacing twice as large": lambda volume: scaled_grid(volume, 2.0),
    "half of the field of view": lambda volume: Volume(
        volume.data[:, : volume.data.shape[1] // 2],
        Grid((volume.data.shape[1] // 2, *volume.grid.shape[1:]), volume.grid.affine),
    ),
}


def features_of(volume: Volume) -> Features:
    """Of an image as the network sees it."""
    image = prepared_image(PLAN, volume).as_tensor().numpy()
    return image_features(image, grid=volume.grid, plan=PLAN)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sites", type=Path, nargs="+")
    sites = [load_site(folder) for folder in parser.parse_args().sites]
    images = {
        split: [read_channels(case.channels) for site in sites for case in site.split(split)]
        for split in ("train", "test")
    }
    usual = input_range([features_of(volume) for volume in images["train"]])
    print(
        f"Usual range of {usual.n_cases} training images, judged on {len(images['test'])} others\n"
    )
    print("| Images | Alarm |\n|---|---|")
    for name, change in CHANGES.items():
        found = [drift(usual, features_of(change(volume))) for volume in images["test"]]
        print(f"| {name} | {sum(map(bool, found))} of {len(found)} |")


if __name__ == "__main__":
    main()
