"""Seconds to score one large kidney case by every metric, on one core.

    python benchmarks/evaluation_speed.py [--reference LABEL]

Without ``--reference`` a real label of KiTS19 is taken where one lies beside the checkout, else two
ellipsoids with a tumor and a cyst. The prediction is the reference, moved by two voxels and with a
piece cut off.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from segfed.evaluation import find_profile, score_labels
from segfed.sites import load_task
from segfed.volumes import read_label

KITS_LABEL = "shared/data/kits19_labels/data/case_00042/segmentation.nii.gz"
REAL_LABEL = Path(__file__).resolve().parents[2] / KITS_LABEL
SHAPE = (512, 512, 300)
SPACING_MM = (0.78, 0.78, 1.5)


def ellipsoid(shape: tuple[int, ...], centre_mm: tuple[float, ...], radii_mm: tuple[float, ...]):
    """Boolean mask of an ellipsoid, given in mm from the middle of the volume."""
    distance = np.zeros(shape, dtype=np.float32)
    for axis in range(3):
        offset = (np.arange(shape[axis]) - shape[axis] / 2) * SPACING_MM[axis] - centre_mm[axis]
        line = (offset / radii_mm[axis]) ** 2
        distance += line.reshape([-1 if other == axis else 1 for other in range(3)])
    return distance <= 1


def kidney_label(shape: tuple[int, int, int]) -> np.ndarray:
    """Two kidneys (1), a tumor (2) on one and a cyst (3) on the other."""
    label = np.zeros(shape, dtype=np.uint8)
    label[ellipsoid(shape, (-75, 20, 0), (32, 28, 60))] = 1
    label[ellipsoid(shape, (75, 20, 10), (30, 27, 62))] = 1
    label[ellipsoid(shape, (-95, 30, 30), (28, 30, 26))] = 2
    label[ellipsoid(shape, (92, 25, -20), (12, 14, 12))] = 3
    return label


def main() -> None:
    """Print the seconds that each profile takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, default=REAL_LABEL, help="a label of kidneys")
    path = parser.parse_args().reference
    if path.exists():
        volume = read_label(path)
        reference, spacing_mm = volume.data[0], volume.grid.spacing_mm
    else:
        reference, spacing_mm = kidney_label(SHAPE), SPACING_MM
    predicted = np.roll(reference, (2, -2, 1), axis=(0, 1, 2))
    predicted[: predicted.shape[0] // 3, : predicted.shape[1] // 2] = 0
    source = path.parent.name if path.exists() else "ellipsoids"
    print(f"{source}: label {reference.shape}, spacing {tuple(round(s, 3) for s in spacing_mm)} mm")
    profiles = [
        find_profile("generic", task=load_task("kidney_tumor")),
        find_profile("kits23"),
        find_profile("brats2023"),
    ]
    for profile in profiles:
        start = time.perf_counter()
        scores = score_labels(
            reference, predicted, spacing_mm=spacing_mm, case_id="case", profile=profile
        )
        seconds = time.perf_counter() - start
        print(f"{profile.name}: {len(scores)} scores in {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
