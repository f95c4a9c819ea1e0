"""Overlay pictures: a slice of a test case with the contours of reference and predictions."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

import contourpy
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segfed.errors import SegfedError
from segfed.report.values import MEAN_OF_STRUCTURES, Scores
from segfed.sites import load_site
from segfed.study.models import ALL_SITES, ModelId
from segfed.study.records import SiteRecord, StudyRecord
from segfed.volumes import Volume, check_same_grid, read_image, read_label

_MARGIN_MM = 18.0
_SMALLEST_MM = 70.0
"""Side of the smallest square shown: enough surroundings to know where one is."""


@dataclass(frozen=True)
class Picture:
    """One test case's slice as a reader sees it: patient's right at the left, front at the top."""

    site: str
    case: str
    rank: str
    """``best``, ``median`` or ``worst`` of its site."""

    dice: dict[str, float]
    """By arm, the mean over structures."""

    slice_mm: float
    """Height of the slice above the lowest one, in mm."""

    side_mm: float
    image_png: str
    """Base64, one grey value a voxel."""

    image_box: tuple[float, float, float, float]
    """Left, top, width and height of the image in the picture, in mm."""

    contours: dict[str, str]
    """SVG path in mm of ``reference`` and of each arm."""


@dataclass(frozen=True)
class Pictures:
    """What could be drawn, and a line for each picture that could not."""

    drawn: tuple[Picture, ...] = ()
    left_out: tuple[str, ...] = ()


OnCase = Callable[[Picture, Volume, Mapping[str, Volume]], None]
"""Called for each case that was drawn, with its image, and its reference and predictions."""


@dataclass(frozen=True)
class ShownModels:
    """The models whose predictions are shown: of the regime that comes first, one for each arm."""

    run_folder: Path
    regime: str
    seed: int
    by_arm: Mapping[str, ModelId]

    def read_case(
        self, study: StudyRecord, site: SiteRecord, case_id: str
    ) -> tuple[Volume, dict[str, Volume]]:
        """A test case's image, and its reference and predictions by name, on the image's grid.

        The reference is the label that was scored, whatever was submitted since.

        Raises:
            SegfedError: If a file is missing or damaged.
        """
        (reference,) = (
            test.reference_sha256
            for test in study.test_cases
            if (test.site, test.case) == (site.name, case_id)
        )
        paths = {
            arm: self.run_folder / model.predictions / site.name / f"{case_id}.nii.gz"
            for arm, model in self.by_arm.items()
        }
        return _read_case(
            site.folder, case_id, reference, paths, channel=study.task.display_channel
        )


def shown_models(run_folder: Path, scores: Scores) -> ShownModels | None:
    """Which models' predictions are shown; None where none learned from all sites."""
    arms = {regime: found for regime, found in scores.regimes().items() if regime != "untrained"}
    regime = next((name for name in ("federated", "pooled", "ensemble") if name in arms), None)
    if regime is None:
        return None
    seed = scores.shared_seeds((regime, arms[regime][0]))[0]
    models = {
        arm: ModelId(regime, arm, seed, ALL_SITES)
        for arm in arms[regime]
        if seed in scores.shared_seeds((regime, arm))
    }
    return ShownModels(run_folder, regime, seed, models)


def make_pictures(
    run_folder: Path, study: StudyRecord, scores: Scores, *, on_case: OnCase | None = None
) -> Pictures:
    """Best, median and worst test case of each site, by the Dice of the first arm's main model.

    Sites whose folder is not on this machine have no pictures; a case of which a file is missing
    or damaged has a line that says so.
    """
    models = shown_models(run_folder, scores)
    if models is None:
        return Pictures()
    drawn: list[Picture] = []
    left_out: list[str] = []
    for site in study.sites:
        if not site.folder.exists():
            continue
        by_arm = {
            arm: scores.by_seed(models.regime, arm, MEAN_OF_STRUCTURES, "dice", sites=[site.name])[
                models.seed
            ]
            for arm in models.by_arm
        }
        dice = {arm: values.get(site.name, {}) for arm, values in by_arm.items()}
        for rank, case in choose_cases(next(iter(dice.values()))).items():
            try:
                image, labels = models.read_case(study, site, case)
            except SegfedError as error:
                left_out.append(f"No picture of {site.name}/{case} ({rank}): {error}")
                continue
            drawn.append(
                draw_picture(
                    image,
                    labels,
                    structures=study.task.structures,
                    window_hu=study.task.window_hu,
                    site=site.name,
                    case=case,
                    rank=rank,
                    dice={arm: values[case] for arm, values in dice.items()},
                )
            )
            if on_case:
                on_case(drawn[-1], image, labels)
    return Pictures(tuple(drawn), tuple(left_out))


def _read_case(
    folder: Path,
    case_id: str,
    reference_sha256: str,
    predictions: Mapping[str, Path],
    *,
    channel: str,
) -> tuple[Volume, dict[str, Volume]]:
    """A test case's image, and its reference and predictions by name, on the image's grid."""
    site = load_site(folder)
    image = read_image(site.case(case_id).channels[channel])
    paths = {"reference": site.ledger().label_path(reference_sha256), **predictions}
    labels = {name: read_label(path) for name, path in paths.items()}
    for name, label in labels.items():
        check_same_grid(label.grid, image.grid, name=f"{name} of {case_id}", reference="its image")
    return image, labels


def choose_cases(dice: Mapping[str, float]) -> dict[str, str]:
    """Worst, median and best case by Dice; fewer where there are fewer cases."""
    ranked = sorted((value, case) for case, value in dice.items() if value == value)
    if not ranked:
        return {}
    chosen = {"worst": ranked[0][1], "median": median_low(ranked)[1], "best": ranked[-1][1]}
    # From the other end, so that the rank named first keeps a case that has two.
    by_case = {case: rank for rank, case in reversed(chosen.items())}
    return {rank: case for rank, case in chosen.items() if by_case[case] == rank}


def draw_picture(
    image: Volume,
    labels: Mapping[str, Volume],
    *,
    structures: Mapping[str, tuple[int, ...]],
    window_hu: tuple[float, float] | None,
    site: str,
    case: str,
    rank: str,
    dice: Mapping[str, float],
) -> Picture:
    """The axial slice in which the reference is largest, cropped to what is labelled.

    Args:
        image: The channel that a reader sees first, one channel.
        labels: ``reference`` and predictions by name, on the image's grid.
        structures: Sets of label values; each has its own contour.
        window_hu: Intensities shown as black and white; without it, the slice's percentiles.
        site: For the caption.
        case: For the caption.
        rank: For the caption.
        dice: For the caption.
    """
    pixels, spacing_mm = _as_seen(image)
    seen = {name: _as_seen(label)[0] for name, label in labels.items()}
    level = _largest_slice(list(seen.values()))
    slices = {name: label[:, :, level] for name, label in seen.items()}
    left_mm, top_mm, side_mm = _crop(np.any(list(slices.values()), axis=0), spacing_mm)
    return Picture(
        site=site,
        case=case,
        rank=rank,
        dice=dict(dice),
        slice_mm=level * spacing_mm[2],
        side_mm=side_mm,
        image_png=_png(pixels[:, :, level], window_hu),
        image_box=(
            -left_mm,
            -top_mm,
            pixels.shape[0] * spacing_mm[0],
            pixels.shape[1] * spacing_mm[1],
        ),
        contours={
            name: " ".join(
                _contour(np.isin(found, values), spacing_mm, left_mm=left_mm, top_mm=top_mm)
                for values in structures.values()
            )
            for name, found in slices.items()
        },
    )


def _as_seen(volume: Volume) -> tuple[NDArray[np.generic], tuple[float, float, float]]:
    """Voxels (columns, rows, levels) as radiologists look at them, with the spacing in mm.

    Columns run from the patient's right to the left, rows from front to back, levels upwards.
    Axes that are oblique to the patient are taken for the nearest straight ones.
    """
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(volume.grid.affine),
        nib.orientations.axcodes2ornt("LPS"),
    )
    spacing_mm = [0.0, 0.0, 0.0]
    for axis, target in enumerate(turn[:, 0].astype(int)):
        spacing_mm[target] = volume.grid.spacing_mm[axis]
    voxels = nib.orientations.apply_orientation(volume.data[0], turn)
    return voxels, (spacing_mm[0], spacing_mm[1], spacing_mm[2])


def _largest_slice(labels: list[NDArray[np.generic]]) -> int:
    """Level where the reference is largest; the predictions decide where it is empty."""
    for label in labels:
        areas = np.count_nonzero(label, axis=(0, 1))
        if areas.any():
            return int(areas.argmax())
    return labels[0].shape[2] // 2


def _crop(labelled: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> tuple[float, float, float]:
    """Left, top and side in mm of a square around what is labelled, or of the whole slice."""
    columns, rows = np.nonzero(labelled)
    if len(columns) == 0:
        columns, rows = (np.array([0, size - 1]) for size in labelled.shape)
    ends = [
        (found.min() * step, (found.max() + 1) * step)
        for found, step in zip((columns, rows), spacing_mm[:2], strict=True)
    ]
    side = max(_SMALLEST_MM, *(high - low + 2 * _MARGIN_MM for low, high in ends))
    left, top = ((low + high - side) / 2 for low, high in ends)
    return float(left), float(top), float(side)


def _contour(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, ...], *, left_mm: float, top_mm: float
) -> str:
    """SVG path in mm around a mask (columns, rows), halfway between inner and outer voxels."""
    # A rim of background, so that a mask cut by the edge has a closed contour.
    field = np.pad(mask, 1).T.astype(float)
    paths = []
    for points in contourpy.contour_generator(z=field).lines(0.5):
        # Undo the rim; a voxel's centre lies half a voxel from its corner.
        columns, rows = np.asarray(points).T
        x = (columns - 0.5) * spacing_mm[0] - left_mm
        y = (rows - 0.5) * spacing_mm[1] - top_mm
        corners = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
        paths.append(f"M{corners}Z")
    return "".join(paths)


def grey_window(voxels: NDArray[Any]) -> tuple[float, float]:
    """Intensities to show as black and white where a task names none."""
    low, high = np.percentile(voxels, (1, 99.5))
    return float(low), float(high)


def _png(pixels: NDArray[np.generic], window_hu: tuple[float, float] | None) -> str:
    """Base64 of a grey PNG of a slice (columns, rows)."""
    values = np.asarray(pixels, dtype=np.float32)
    low, high = window_hu or grey_window(values)
    grey = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255
    content = io.BytesIO()
    Image.fromarray(grey.T.astype(np.uint8)).save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode("ascii")
