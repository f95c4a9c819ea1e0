"""Sites whose labels are real masks and whose CT is invented around them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segfed.errors import CaseError, ConfigError
from segfed.phantom.ct import render_ct
from segfed.phantom.readers import Reader
from segfed.phantom.recipe import SiteRecipe, Workday, build_sites, write_truth
from segfed.phantom.scanner import draw_scanners
from segfed.protocol import Split
from segfed.sites import Site, add_case, load_site
from segfed.sites.imports import OnCase, SourceCase, find_kits
from segfed.volumes import Grid, Volume, read_label

TASK = "kidney_tumor"
SOURCE = "kits19"

_COLUMNS = ("case_ids", "site_ids", "train_test_split")
_VALIDATION_SHARE = 0.15
_BLUR_MM = 1.0


def sites_from_labels(
    masks: Path,
    *,
    table: Path,
    out: Path,
    spacing_mm: float | None = None,
    limit: int | None = None,
    seed: int = 0,
    on_case: OnCase | None = None,
) -> tuple[Site, ...]:
    """Sites with CT rendered around the masks of KiTS19, divided as a benchmark divides them.

    The label that is recorded is the real mask (thinned, where a spacing is given), with origin
    manual and reader ``kits19``; only the image is made up. Of each site's training cases about
    15 % become validation cases, at least one where it has three. A site that the same arguments
    made before is kept.

    Args:
        masks: The repository, or its folder ``data``: ``case_00000/segmentation.nii.gz`` ….
        table: CSV with the columns ``case_ids``, ``site_ids``, ``train_test_split``, as
            ``thresholded_sites.csv`` of Fed-KiTS19.
        out: The sites lie in it as ``kits19-0`` ….
        spacing_mm: Axes finer than this are thinned to it, by nearest neighbour. Whole masks of
            512 x 512 x 1000 voxels take minutes and about 2.5 GB each.
        limit: At most so many cases a site; at least one of them is a test case.
        seed: Seed of scanners, anatomy and noise.
        on_case: Called after each case with the number done and the number in all.

    Raises:
        ConfigError: If the table is not as expected, or a folder holds another site.
        CaseError: If the table names a case that has no mask.
        LabelError: If a mask holds a value that is not one of KiTS19's.
    """
    found = {case.case_id: case for case in find_kits(masks)}
    placed = _read_table(table, limit=limit)
    _check_masks(placed, found, masks)
    recipes = _recipes(placed, spacing_mm=spacing_mm, seed=seed)

    def fill(site: Site, recipe: SiteRecipe, report: Callable[[], None]) -> None:
        for number, case_id in enumerate(recipe.cases):
            _add_case(site, recipe, number, found[case_id])
            report()

    return build_sites(out, recipes, fill, on_case=on_case)


def thin(
    label: NDArray[np.integer[Any]], grid: Grid, spacing_mm: float
) -> tuple[NDArray[np.integer[Any]], Grid]:
    """A label (I, J, K) on a grid that covers the same field with voxels of at least a spacing.

    Every new voxel takes the value of the old one nearest to its centre. Axes that are coarser
    already stay as they are.
    """
    shape, picks, ratios = [], [], []
    for size, step_mm in zip(grid.shape, grid.spacing_mm, strict=True):
        n_new = max(1, min(size, round(size * step_mm / spacing_mm)))
        ratio = size / n_new
        picks.append(((np.arange(n_new) + 0.5) * ratio).astype(np.intp))
        shape.append(n_new)
        ratios.append(ratio)
    to_old = np.diag([*ratios, 1.0])
    to_old[:3, 3] = (np.array(ratios) - 1) / 2
    thinned = np.ascontiguousarray(label[np.ix_(*picks)])
    return thinned, Grid((shape[0], shape[1], shape[2]), grid.affine @ to_old)


def _add_case(site: Site, recipe: SiteRecipe, number: int, source: SourceCase) -> None:
    """Render one case and record its mask."""
    if source.label is None:
        raise CaseError(
            f"Case {source.case_id} has an image and no segmentation.nii.gz, expected its mask. "
            "Download it, or leave the case out of the table."
        )
    case_id = source.case_id
    mask = read_label(source.label)
    values, grid = mask.data[0], mask.grid
    if recipe.spacing_mm is not None:
        values, grid = thin(values, grid, recipe.spacing_mm)
    label = site.task.remap_label(values, source=SOURCE, case_id=case_id, path=source.label)
    image = render_ct(label, grid, recipe.rng(number), recipe.scanner)
    add_case(
        site.folder,
        task=site.task,
        case_id=case_id,
        patient_id=case_id,
        split=recipe.cases[case_id],
        channels={site.task.channels[0]: Volume(image[np.newaxis], grid)},
    )
    write_truth(site, case_id, label, grid)
    Workday(load_site(site.folder)).submit(case_id, label, grid, reader=SOURCE)


def _recipes(
    placed: Mapping[str, Mapping[str, Split]], *, spacing_mm: float | None, seed: int
) -> list[SiteRecipe]:
    """What each site is made of."""
    rng = np.random.default_rng(seed)
    scanners = draw_scanners(
        "CT", n_scanners=len(placed), spacing_mm=max(spacing_mm or 0.0, _BLUR_MM), rng=rng
    )
    return [
        SiteRecipe(
            name=f"{SOURCE}-{site}",
            task=TASK,
            data="rendered",
            seed=seed,
            index=index,
            scanner=scanners[index],
            reader=Reader(name=SOURCE),
            cases=dict(cases),
            spacing_mm=spacing_mm,
        )
        for index, (site, cases) in enumerate(placed.items())
    ]


def _read_table(path: Path, *, limit: int | None) -> dict[str, dict[str, Split]]:
    """Split of every case, by site, in the table's order."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"No readable table at {path}: {error}. Check the path.") from error
    if not set(_COLUMNS) <= set(columns):
        raise ConfigError(
            f"{path} has the columns {columns}, expected {list(_COLUMNS)}. Give the table "
            "thresholded_sites.csv of Fed-KiTS19, or one like it."
        )
    wrong = sorted({row["train_test_split"] for row in rows} - {"train", "test"})
    if wrong:
        raise ConfigError(
            f"{path}: found the splits {wrong}, expected train and test. Correct the table."
        )
    placed: dict[str, dict[str, Split]] = {}
    for site in sorted({row["site_ids"] for row in rows}):
        members = [row for row in rows if row["site_ids"] == site]
        test = [row["case_ids"] for row in members if row["train_test_split"] == "test"]
        train = [row["case_ids"] for row in members if row["train_test_split"] == "train"]
        placed[site] = _split(train, test, limit=limit)
    return placed


def _split(train: Sequence[str], test: Sequence[str], *, limit: int | None) -> dict[str, Split]:
    """Split of one site's cases, validation taken from the end of the training cases."""
    if limit is not None:
        n_test = min(len(test), max(1, round(limit * len(test) / (len(test) + len(train)))))
        test, train = test[:n_test], train[: max(0, limit - n_test)]
    n_validation = max(1, round(_VALIDATION_SHARE * len(train))) if len(train) > 2 else 0
    first = len(train) - n_validation
    splits: dict[str, Split] = dict.fromkeys(train[:first], "train")
    splits |= dict.fromkeys(train[first:], "validation")
    splits |= dict.fromkeys(test, "test")
    return splits


def _check_masks(
    placed: Mapping[str, Mapping[str, Split]], found: Mapping[str, SourceCase], folder: Path
) -> None:
    """Refuse a table that names cases without a mask, before anything is rendered."""
    named = [case_id for cases in placed.values() for case_id in cases]
    missing = [name for name in named if name not in found or found[name].label is None]
    if missing:
        raise CaseError(
            f"The table names {len(missing)} case(s) without a mask in {folder}: "
            f"{', '.join(missing[:10])}. Expected segmentation.nii.gz in a folder of each case's "
            "name. Download the masks, or leave these cases out of the table."
        )
