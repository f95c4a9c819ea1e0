"""Synthetic hospitals: sites whose images, labels and readers are all made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segfed.errors import ConfigError
from segfed.phantom import ct, kidneys, mr
from segfed.phantom.fields import Triple
from segfed.phantom.readers import Reader, draw
from segfed.phantom.recipe import SiteRecipe, Workday, build_sites, write_truth
from segfed.phantom.scanner import Scanner, draw_scanners
from segfed.protocol import Split
from segfed.sites import Site, Task, add_case, load_site, load_task
from segfed.sites.imports import OnCase
from segfed.volumes import Grid, Volume

MANUAL_READER = "manual-reader"
"""Who draws warm-up, training and validation cases: each site's own habits."""

TEST_READER = Reader(name="test-reader", contour_sd_mm=0.8)
"""Who draws the test cases of all sites, without having seen a proposal."""

_MINIMUM_TRAIN = 2


@dataclass(frozen=True)
class CaseCounts:
    """Cases a site, by split."""

    warmup: int = 4
    train: int = 9
    """On average: the first site has half as many more, the last one half as many."""

    validation: int = 3
    test: int = 8


@dataclass(frozen=True)
class _Phantom:
    """What a task's cases are made with."""

    field_mm: Triple
    spacing_mm: float
    case: Callable[..., NDArray[np.uint8]]
    render: Callable[[NDArray[Any], Grid, np.random.Generator, Scanner], NDArray[Any]]


_PHANTOMS = {
    "kidney_tumor": _Phantom(
        kidneys.FIELD_MM,
        5.0,
        kidneys.kidney_case,
        lambda label, grid, rng, scanner: ct.render_ct(label, grid, rng, scanner)[np.newaxis],
    ),
    "brain_tumor": _Phantom(mr.FIELD_MM, 4.0, mr.brain_case, mr.render_mr),
}


def generate_sites(
    folder: Path,
    *,
    task: str,
    n_sites: int = 3,
    n_external: int = 1,
    counts: CaseCounts | None = None,
    spacing_mm: float | None = None,
    seed: int = 0,
    on_case: OnCase | None = None,
) -> tuple[Site, ...]:
    """Synthetic sites that differ as hospitals do, with all cases labelled by hand.

    Sites differ in the number of training cases, in voxel size and order, noise, sharpness, in
    contrast phase and calibration (CT) or gamma and field bias (MR), in the size of their
    patients' tumors, and in their reader's bias and contour errors. Test cases are drawn by one
    other reader without bias, who sees no proposal. The true labels lie in ``phantom/truth``, the
    reader's habits in ``phantom/reader.toml``.

    The same arguments give the same bytes. A site that the same arguments made before is kept
    with all that has happened to it since; an interrupted run can be repeated.

    Args:
        folder: The sites lie in it as ``hospital-a`` …, ``external-a`` ….
        task: ``kidney_tumor`` or ``brain_tumor``.
        n_sites: Sites that train.
        n_external: Sites that never train; they have the average number of cases.
        counts: Cases a site.
        spacing_mm: Nominal voxel spacing, 5 mm for CT and 4 mm for MR unless given.
        seed: Seed of everything.
        on_case: Called after each case with the number done and the number in all.

    Returns:
        The training sites, then the external ones.

    Raises:
        ConfigError: If there is no phantom for the task, or a folder holds another site.
    """
    if task not in _PHANTOMS:
        raise ConfigError(
            f"There is no phantom for task {task!r}; expected one of {', '.join(_PHANTOMS)}. "
            "Import images for other tasks."
        )
    recipes = _recipes(
        load_task(task),
        n_sites=n_sites,
        n_external=n_external,
        counts=counts or CaseCounts(),
        spacing_mm=spacing_mm or _PHANTOMS[task].spacing_mm,
        seed=seed,
    )
    return build_sites(folder, recipes, _fill, on_case=on_case)


def _recipes(
    task: Task,
    *,
    n_sites: int,
    n_external: int,
    counts: CaseCounts,
    spacing_mm: float,
    seed: int,
) -> list[SiteRecipe]:
    """What each site is made of; every property is spread over all sites."""
    rng = np.random.default_rng(seed)
    n_all = n_sites + n_external
    scanners = draw_scanners(task.modality, n_scanners=n_all, spacing_mm=spacing_mm, rng=rng)
    readers = _draw_readers(n_all, rng)
    scales = rng.permutation(np.linspace(0.88, 1.15, n_all)).round(3).tolist()
    shares = np.linspace(1.5, 0.5, n_sites) if n_sites > 1 else np.ones(1)
    n_train = [max(_MINIMUM_TRAIN, round(counts.train * share)) for share in shares]
    n_train += [max(_MINIMUM_TRAIN, counts.train)] * n_external
    names = [f"hospital-{_letters(index)}" for index in range(n_sites)]
    names += [f"external-{_letters(index)}" for index in range(n_external)]
    return [
        SiteRecipe(
            name=name,
            task=task.name,
            data="synthetic",
            external=index >= n_sites,
            seed=seed,
            index=index,
            scanner=scanners[index],
            reader=readers[index],
            lesion_scale=scales[index],
            cases=_name_cases(name, replace(counts, train=n_train[index])),
            spacing_mm=spacing_mm,
        )
        for index, name in enumerate(names)
    ]


def _draw_readers(n_readers: int, rng: np.random.Generator) -> list[Reader]:
    """Readers whose bias and contour errors are spread evenly over their ranges."""
    biases_mm = rng.permutation(np.linspace(-1.2, 1.2, n_readers)).round(3).tolist()
    sds_mm = rng.permutation(np.linspace(0.8, 2.2, n_readers)).round(3).tolist()
    return [
        Reader(name=MANUAL_READER, contour_sd_mm=sd_mm, bias_mm=bias_mm)
        for sd_mm, bias_mm in zip(sds_mm, biases_mm, strict=True)
    ]


def _name_cases(site: str, counts: CaseCounts) -> dict[str, Split]:
    """Split of every case; cases are alike, so their order carries no information."""
    sizes: tuple[tuple[Split, int], ...] = (
        ("warmup", counts.warmup),
        ("train", counts.train),
        ("validation", counts.validation),
        ("test", counts.test),
    )
    splits = [split for split, size in sizes for _ in range(size)]
    return {f"{site}-{number:03d}": split for number, split in enumerate(splits, start=1)}


def _fill(site: Site, recipe: SiteRecipe, report: Callable[[], None]) -> None:
    """Draw, scan and label every case of a site."""
    phantom = _PHANTOMS[recipe.task]
    grid = recipe.scanner.grid(phantom.field_mm)
    truths = {}
    for number, (case_id, split) in enumerate(recipe.cases.items()):
        rng = recipe.rng(0, number)
        truth = phantom.case(rng, grid, lesion_scale=recipe.lesion_scale)
        image = phantom.render(truth, grid, rng, recipe.scanner)
        channels = {
            channel: Volume(image[index : index + 1], grid)
            for index, channel in enumerate(site.task.channels)
        }
        add_case(
            site.folder,
            task=site.task,
            case_id=case_id,
            patient_id=case_id,
            split=split,
            channels=channels,
        )
        write_truth(site, case_id, truth, grid)
        truths[case_id] = truth
        report()
    site, workday = load_site(site.folder), Workday(load_site(site.folder))
    for number, (case_id, truth) in enumerate(truths.items()):
        reader = TEST_READER if recipe.cases[case_id] == "test" else recipe.reader
        drawing = draw(truth, reader, spacing_mm=grid.spacing_mm, rng=recipe.rng(1, number))
        workday.submit(
            case_id,
            drawing.label,
            grid,
            reader=reader.name,
            active_seconds=drawing.edit_seconds,
        )


def _letters(index: int) -> str:
    """a … z, then aa, ab …"""
    first, last = divmod(index, 26)
    return (_letters(first - 1) if first else "") + chr(ord("a") + last)
