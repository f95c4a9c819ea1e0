"""How often a copy of a scan is found by its marks, and how often another patient's scan is.

    python benchmarks/duplicates.py [--images FOLDER] [--copies N]

Without ``--images`` the hippocampus crops of the Medical Segmentation Decathlon are taken, where
they lie beside the checkout. Every pair of different scans is compared once, and the first N with
copies of themselves that were written anew in various ways. All scans are of one study.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import ndimage

from segfed.sites.keyed_scans import KeyedScan, KeyedScans
from segfed.sites.overlap import same_scans
from segfed.sites.scan_marks import scan_marks
from segfed.volumes import Grid, Volume, read_image

IMAGES = Path(__file__).resolve().parents[2] / "shared/data/hippocampus/imagesTr"
Change = Callable[[Volume, np.random.Generator], Volume]


def stored_otherwise(image: Volume, _: np.random.Generator) -> Volume:
    """The same voxels with their first axis turned and the first two exchanged."""
    data = np.ascontiguousarray(image.data[:, ::-1].transpose(0, 2, 1, 3))
    affine = image.grid.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (image.data.shape[1] - 1)
    affine[:, 0] *= -1
    return Volume(data, Grid(data.shape[1:], affine[:, [1, 0, 2, 3]]))


def as_grey_values(image: Volume, _: np.random.Generator) -> Volume:
    """256 grey values between the first and the last percentile, as of a picture."""
    low, high = np.percentile(image.data, (1, 99))
    grey = np.clip((image.data - low) / (high - low), 0, 1) * 255
    return Volume(np.rint(grey).astype(np.float32), image.grid)


def with_gamma(image: Volume, _: np.random.Generator) -> Volume:
    """Intensities bent and in other units."""
    unit = (image.data - image.data.min()) / np.ptp(image.data)
    return Volume((1000 * unit**0.7 - 50).astype(np.float32), image.grid)


def with_noise(share: float) -> Change:
    """Noise of a share of the image's standard deviation, as lossy compression adds."""

    def change(image: Volume, rng: np.random.Generator) -> Volume:
        noise = rng.normal(scale=share * image.data.std(), size=image.data.shape)
        return Volume((image.data + noise).astype(np.float32), image.grid)

    return change


def cut(n_voxels: int) -> Change:
    """Without so many voxels on either side of the first axis, and some elsewhere."""

    def change(image: Volume, _: np.random.Generator) -> Volume:
        n = n_voxels
        data = image.data[:, n:-n, n // 2 :, :-n]
        return Volume(data, Grid(data.shape[1:], image.grid.affine))

    return change


def resampled(*factors: float) -> Change:
    """So many times as many voxels along each axis."""

    def change(image: Volume, _: np.random.Generator) -> Volume:
        data = ndimage.zoom(image.data[0], factors, order=3)[None].astype(np.float32)
        steps = np.array(image.data.shape[1:]) / data.shape[1:]
        return Volume(data, Grid(data.shape[1:], image.grid.affine @ np.diag([*steps, 1.0])))

    return change


def all_together(image: Volume, rng: np.random.Generator) -> Volume:
    """Cut, as grey values, a fifth coarser, with 5 % noise."""
    for change in (cut(4), as_grey_values, resampled(0.8, 0.8, 0.8), with_noise(0.05)):
        image = change(image, rng)
    return image


CHANGES: dict[str, Change] = {
    "stored in another orientation": stored_otherwise,
    "intensities bent": with_gamma,
    "256 grey values": as_grey_values,
    "noise 10 %": with_noise(0.1),
    "noise 20 %": with_noise(0.2),
    "cut by 4 voxels": cut(4),
    "cut by 8 voxels": cut(8),
    "spacing 1.25 times": resampled(0.8, 0.8, 0.8),
    "spacing 1.5 times": resampled(0.67, 0.67, 0.67),
    "slices twice as thick": resampled(1, 1, 0.5),
    "cut, grey, coarser, noisy": all_together,
}


def as_site(name: str, marks: list[frozenset[int]]) -> KeyedScans:
    """Marks as a site hands them over; a key would change nothing here."""
    scans = tuple(
        KeyedScan(
            number=number,
            split="train",
            image=f"{abs(hash((name, number))):x}",
            marks=tuple(f"{mark:x}" for mark in of),
        )
        for number, of in enumerate(marks, start=1)
    )
    return KeyedScans(site=name, task="any", key_id="0", scans=scans)


def main() -> None:
    """Print the rate of false pairs, and one line for each kind of copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--copies", type=int, default=100)
    options = parser.parse_args()
    paths = sorted(p for p in options.images.glob("*.nii.gz") if not p.name.startswith("."))
    images = [read_image(path) for path in paths]
    start = time.perf_counter()
    marks = [scan_marks(image) for image in images]
    seconds = (time.perf_counter() - start) / len(images)
    print(f"{len(images)} scans, {np.median([len(m) for m in marks]):.0f} marks each (median), "
          f"{seconds:.2f} s a scan")  # fmt: skip
    for n_scans in (6, 20, len(images)):
        rng = np.random.default_rng(0)
        n_pairs, n_false = 0, 0
        for _ in range(1 if n_scans == len(images) else 50):
            chosen = rng.choice(len(images), n_scans, replace=False)
            n_pairs += len(list(combinations(chosen, 2)))
            n_false += len(same_scans([as_site("a", [marks[i] for i in chosen])]))
        print(f"studies of {n_scans} scans: {n_false} of {n_pairs} pairs of different patients")
    rng = np.random.default_rng(0)
    for name, change in CHANGES.items():
        copies = [scan_marks(change(image, rng)) for image in images[: options.copies]]
        found = same_scans([as_site("a", marks), as_site("b", copies)])
        right = sum(
            pair.cases[0][1] == pair.cases[1][1] for pair in found if pair.cases[1][0] == "b"
        )
        wrong = sum(
            pair.cases[0][1] != pair.cases[1][1] for pair in found if pair.cases[0][0] != "b"
        )
        print(f"{name}: {right} of {len(copies)} found, {wrong} pairs of others", flush=True)


if __name__ == "__main__":
    main()
