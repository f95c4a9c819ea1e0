"""A plan made from the fingerprints of all sites: nobody sees a case.

The rules are those of nnU-Net (Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z,
and its ``ExperimentPlanner``), with one difference: what fits into memory is counted for the
network itself instead of compared with a reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segfed.engine.memory import training_bytes
from segfed.engine.plan import Plan, make_plan
from segfed.errors import ConfigError
from segfed.sites import Fingerprint, Histogram, Task, merged

_ANISOTROPY = 3.0
_FINE_QUANTILE = 0.1
_WINDOW_QUANTILES = (0.005, 0.995)
# The first patch that is tried has as many voxels as a cube of this edge.
_EDGE_VOXELS = 256
_SMALLEST_EDGE_VOXELS = 32
_FEATURES = 32
_MOST_FEATURES = 320
_MOST_HALVINGS = 5
# No axis is halved to fewer voxels than this.
_SMALLEST_SIDE_VOXELS = 4
_SMALLEST_BATCH = 2
# A batch that shows more of the data than this at once makes steps dear and teaches little.
_BATCH_SHARE = 0.05
_GB = 1e9

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class DataSummary:
    """What the rules look at, over the cases of all sites; axes are right, anterior, superior."""

    n_cases: int
    spacing_mm: Triple
    """Median."""

    fine_spacing_mm: Triple
    """Tenth percentile."""

    size_voxels: Triple
    """Median."""

    extent_mm: Triple
    """Median of voxels times spacing."""

    window_hu: tuple[float, float] | None
    """CT: 0.5th and 99.5th percentile inside the structures; None where nothing was measured."""


def summarise(task: Task, fingerprints: Sequence[Fingerprint]) -> DataSummary:
    """The fingerprints of all sites as that of one, pooled site.

    Raises:
        ConfigError: If there is none, if one is of another task, or if two are of one site.
    """
    _check_fit(task, fingerprints)
    hu = [f.intensity_hu for f in fingerprints if f.intensity_hu]
    window = merged(hu) if hu else None
    low, high = _WINDOW_QUANTILES
    return DataSummary(
        n_cases=sum(f.n_cases for f in fingerprints),
        spacing_mm=_quantiles([f.spacing_mm for f in fingerprints], 0.5),
        fine_spacing_mm=_quantiles([f.spacing_mm for f in fingerprints], _FINE_QUANTILE),
        size_voxels=_quantiles([f.size_voxels for f in fingerprints], 0.5),
        extent_mm=_quantiles([f.extent_mm for f in fingerprints], 0.5),
        window_hu=(window.quantile(low), window.quantile(high)) if window else None,
    )


def plan_for(task: Task, summary: DataSummary, *, gpu_memory_gb: float) -> Plan:
    """The plan for some data and the smallest GPU that will train on it.

    Spacing, patch, features, batch and a CT's window are decided here; everything else stays as
    the task has it. The patch begins at 256³ voxels' worth, isotropic in mm and no larger than the
    median image, and its longest side relative to the image shrinks until two patches fit. Each
    level doubles the features, from 32 to at most 320, and halves the axes along which its voxels
    are short: thick slices are left as they are until the other axes have caught up. The batch
    takes the memory that is left, up to 5 % of all voxels of the data.

    Args:
        task: The task that the plan is for.
        summary: The data of all sites.
        gpu_memory_gb: Memory of the smallest GPU, in 10⁹ bytes.

    Raises:
        ConfigError: If not even the smallest patch fits into the memory, or if the intensities
            inside the structures are all alike.
    """
    spacing_mm = target_spacing_mm(summary)
    image = [max(1.0, mm / step) for mm, step in zip(summary.extent_mm, spacing_mm, strict=True)]
    cube_mm = _EDGE_VOXELS * math.prod(spacing_mm) ** (1 / 3)
    size = [round(min(cube_mm / mm, edge)) for mm, edge in zip(spacing_mm, image, strict=True)]
    while True:
        plan = _sized(task, summary, spacing_mm=spacing_mm, size=size)
        needed = training_bytes(plan)
        if needed <= gpu_memory_gb * _GB:
            return _with_batch(task, plan, summary, image=image, gpu_memory_gb=gpu_memory_gb)
        smaller = _shrunk(plan, image=image)
        if smaller is None:
            raise ConfigError(
                f"A GPU with {gpu_memory_gb:g} GB cannot train task {task.name!r}: "
                f"{_SMALLEST_BATCH} patches of {plan.patch_voxels} voxels take "
                f"{needed / _GB:.1f} GB, and smaller patches would show too little. Use a GPU with "
                "more memory, or write a plan with fewer features by hand."
            )
        size = smaller


def target_spacing_mm(summary: DataSummary) -> Triple:
    """The spacing to train at: the median, but finer across thick slices.

    Where slices are more than 3 times as thick as the other axes' spacing, and images have less
    than a third as many of them as voxels along the other axes, half of the images would lose most
    of their few slices at the median: the tenth percentile keeps them. It is never finer than the
    other axes.
    """
    target = list(summary.spacing_mm)
    thick = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != thick]
    coarsest = max(target[axis] for axis in others)
    fewest = min(summary.size_voxels[axis] for axis in others)
    is_thick = target[thick] > _ANISOTROPY * coarsest
    if is_thick and summary.size_voxels[thick] * _ANISOTROPY < fewest:
        target[thick] = max(summary.fine_spacing_mm[thick], coarsest)
    i, j, k = target
    return i, j, k


def plan_table(plan: Plan) -> dict[str, Any]:
    """What was decided, as the ``plan`` table of a study or task file takes it."""
    names = {"spacing_mm", "patch_voxels", "features", "strides", "stem_stride", "batch_size"}
    return plan.model_dump(mode="json", include=names)


def _check_fit(task: Task, fingerprints: Sequence[Fingerprint]) -> None:
    """Refuse fingerprints that cannot be added up."""
    sites = [fingerprint.site for fingerprint in fingerprints]
    if not sites or len(set(sites)) < len(sites):
        raise ConfigError(
            f"Found fingerprints of {', '.join(sites) or 'no site'}; expected one of each site. "
            "Leave out the older of two, or give sites names of their own."
        )
    for fingerprint in fingerprints:
        about = ("modality", "channels", "structures")
        found = {"task": fingerprint.task, **{name: getattr(fingerprint, name) for name in about}}
        expected = {"task": task.name, **{name: getattr(task, name) for name in about}}
        differing = [name for name in found if found[name] != expected[name]]
        if differing:
            listed = "; ".join(f"{n} {found[n]!r} instead of {expected[n]!r}" for n in differing)
            raise ConfigError(
                f"The fingerprint of site {fingerprint.site} is of another task than "
                f"{task.name!r}: {listed}. Use one task file at every site, and make it again."
            )


def _quantiles(sites: Sequence[tuple[Histogram, Histogram, Histogram]], fraction: float) -> Triple:
    """A quantile along each axis, over all sites."""
    i, j, k = (merged(axis).quantile(fraction) for axis in zip(*sites, strict=True))
    return i, j, k


def _sized(task: Task, summary: DataSummary, *, spacing_mm: Triple, size: Sequence[int]) -> Plan:
    """The plan whose patch covers a size, as deep as that allows, with the smallest batch."""
    strides = strides_for(spacing_mm, [edge / task.plan.stem_stride for edge in size])
    steps = np.prod(strides, axis=0) * task.plan.stem_stride
    overrides = {
        "spacing_mm": spacing_mm,
        "patch_voxels": [
            math.ceil(edge / step) * int(step) for edge, step in zip(size, steps, strict=True)
        ],
        "features": [min(_FEATURES * 2**n, _MOST_FEATURES) for n in range(len(strides) + 1)],
        "strides": strides,
        "batch_size": _SMALLEST_BATCH,
    }
    return make_plan(_with_window(task, summary), overrides)


def strides_for(spacing_mm: Sequence[float], size: Sequence[float]) -> list[tuple[int, int, int]]:
    """Which axes each level halves, for a patch of some size in voxels; at least one level.

    An axis is halved as long as 4 voxels remain and its voxels are less than twice as long as
    those of the shortest axis that can be halved too; a single axis only while 6 remain.
    """
    voxel_mm, side = np.array(spacing_mm, dtype=float), np.array(size, dtype=float)
    strides: list[tuple[int, int, int]] = []
    while len(strides) < _MOST_HALVINGS:
        halved = side >= 2 * _SMALLEST_SIDE_VOXELS
        if halved.any():
            halved &= voxel_mm < 2 * voxel_mm[halved].min()
        if not halved.any() or (halved.sum() == 1 and max(side[halved]) < 12):
            break
        i, j, k = (2 if axis else 1 for axis in halved)
        strides.append((i, j, k))
        voxel_mm[halved] *= 2
        side[halved] /= 2
    return strides or [(2, 2, 2)]


def _with_window(task: Task, summary: DataSummary) -> Task:
    """The task with the window that was measured, if one was."""
    if summary.window_hu is None:
        return task
    low, high = summary.window_hu
    if low >= high:
        raise ConfigError(
            f"The voxels inside the structures of task {task.name!r} hold {low:g} HU nearly "
            "everywhere; expected a range of intensities. Check that the images are CT in HU."
        )
    return task.model_copy(update={"window_hu": summary.window_hu})


def _shrunk(plan: Plan, *, image: Sequence[float]) -> list[int] | None:
    """The next smaller patch: one step off the axis that covers the most of the image."""
    smallest = [min(_SMALLEST_EDGE_VOXELS, edge) for edge in image]
    candidates = [
        (size / image[axis], axis)
        for axis, size in enumerate(plan.patch_voxels)
        if size - plan.coarsest_voxel[axis] >= smallest[axis]
    ]
    if not candidates:
        return None
    _, chosen = max(candidates)
    size = list(plan.patch_voxels)
    size[chosen] -= plan.coarsest_voxel[chosen]
    return size


def _with_batch(
    task: Task,
    plan: Plan,
    summary: DataSummary,
    *,
    image: Sequence[float],
    gpu_memory_gb: float,
) -> Plan:
    """The plan with the largest batch that fits and that the data justifies."""
    one, two = (training_bytes(plan, batch_size=size) for size in (1, 2))
    fits = int((gpu_memory_gb * _GB - one) // (two - one)) + 1
    share = _BATCH_SHARE * summary.n_cases * math.prod(image) / math.prod(plan.patch_voxels)
    batch_size = max(_SMALLEST_BATCH, min(fits, round(share)))
    return make_plan(_with_window(task, summary), {**plan_table(plan), "batch_size": batch_size})
