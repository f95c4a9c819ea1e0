"""The hippocampus volumes at 1 or 2 mm, dealt to four uneven sites whose scanners differ.

A seed decides who gets which case; the scanners are always the same. They differ in gamma, bias
field and slice thickness: what normalising intensities does not undo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import avg_pool3d, one_hot

from segfed.engine import PreparedCase
from segfed.engine.cache import label_positions
from segfed.volumes import read_image, read_label

N_TEST = 15
CANVAS_MM = (48, 64, 48)
"""Every crop of the data set fits in: test cases are predicted whole, in one batch."""


@dataclass(frozen=True)
class Scanner:
    """What a site's images look like, and how many cases it has to train on."""

    n_train: int
    gamma: float
    bias: float
    """Largest change of the logarithm of the intensity across the field of view."""

    thick_axis: int
    thickness_voxels: float
    """Standard deviation of the blur along that axis, in voxels of 1 mm."""


SCANNERS = {
    "north": Scanner(8, gamma=1.0, bias=0.1, thick_axis=0, thickness_voxels=0.0),
    "east": Scanner(12, gamma=0.45, bias=0.5, thick_axis=1, thickness_voxels=1.0),
    "south": Scanner(20, gamma=1.8, bias=0.8, thick_axis=2, thickness_voxels=1.6),
    "west": Scanner(40, gamma=0.7, bias=1.1, thick_axis=0, thickness_voxels=1.2),
}


@dataclass(frozen=True)
class Cases:
    """A site's share."""

    train: tuple[PreparedCase, ...]
    images: torch.Tensor
    """Test images (N, 1, I, J, K), padded to the canvas."""

    labels: torch.Tensor
    """Test labels (N, I, J, K)."""


def read_cases(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images scaled to 0..1 and labels, all (I, J, K) at 1 mm."""
    cases = []
    for path in sorted((folder / "labelsTr").glob("*.nii.gz")):
        image = read_image(folder / "imagesTr" / path.name).data[0].astype(np.float64)
        low, high = np.percentile(image, (0.5, 99.5))
        cases.append((np.clip((image - low) / (high - low), 0, 1), read_label(path).data[0]))
    return cases


def scanned(image: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """An image of 0..1 as a scanner shows it; the bias field lies differently in each case."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in image.shape], indexing="ij"))
    direction = rng.normal(size=3)
    slope = np.tensordot(direction / np.linalg.norm(direction), grid, axes=1)
    changed = image**scanner.gamma * np.exp(scanner.bias / 2 * slope)
    blurred: np.ndarray = ndimage.gaussian_filter1d(
        changed, max(scanner.thickness_voxels, 1e-3), axis=scanner.thick_axis
    )
    return blurred


def prepared(
    image: np.ndarray,
    label: np.ndarray,
    scanner: Scanner,
    rng: np.random.Generator,
    *,
    name: str,
    spacing_mm: int,
) -> PreparedCase:
    """A case with mean 0 and standard deviation 1."""
    fine = torch.from_numpy(scanned(image, scanner, rng))
    coarse = avg_pool3d(fine[None, None], spacing_mm)[0, 0]
    classes = one_hot(torch.from_numpy(label.astype(np.int64)), 3).movedim(-1, 0)[None].double()
    values = avg_pool3d(classes, spacing_mm)[0].argmax(0).numpy().astype(np.uint8)
    image = ((coarse - coarse.mean()) / coarse.std()).numpy().astype(np.float32)[None]
    return PreparedCase(name, name, image, values, label_positions(values))


def deal(
    cases: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, *, spacing_mm: int = 2
) -> dict[str, Cases]:
    """Every site's cases, dealt and scanned by a seed."""
    canvas = [length // spacing_mm for length in CANVAS_MM]
    rng = np.random.default_rng(seed)
    order = list(rng.permutation(len(cases)))
    sites = {}
    for name, scanner in SCANNERS.items():
        chosen = [order.pop() for _ in range(scanner.n_train + N_TEST)]
        mine = [
            prepared(*cases[i], scanner, rng, name=f"{name}{i}", spacing_mm=spacing_mm)
            for i in chosen
        ]
        tests = mine[scanner.n_train :]
        images, labels = torch.zeros(N_TEST, 1, *canvas), torch.zeros(N_TEST, *canvas)
        for image, label, case in zip(images, labels, tests, strict=True):
            i, j, k = case.label.shape
            image[:, :i, :j, :k] = torch.from_numpy(case.image)
            label[:i, :j, :k] = torch.from_numpy(case.label)
        sites[name] = Cases(tuple(mine[: scanner.n_train]), images, labels)
    return sites
