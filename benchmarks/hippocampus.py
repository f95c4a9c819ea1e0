"""The hippocampus volumes of the Medical Segmentation Decathlon (Task04), for the benchmarks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from segfed.sites import LabelledCase, Site, load_site, select_labels
from segfed.sites.imports import DataFormat, import_data_set

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "hippocampus"
"""Where they lie unless ``--data`` says otherwise: beside the checkout."""

TASK = ROOT / "docs" / "examples" / "hippocampus" / "hippocampus.toml"


def import_sites(data: Path, folder: Path, *, sites: Mapping[str, int | None]) -> tuple[Site, ...]:
    """Sites with so many cases each, dealt at random; those that are there already are kept."""
    import_data_set(data, folder, data_format=DataFormat.MSD, task=TASK, sites=sites)
    return tuple(load_site(folder / name) for name in sites)


def every_label(site: Site) -> tuple[LabelledCase, ...]:
    """The cases of a site with their labels, whatever their split."""
    return tuple(
        labelled
        for split in ("train", "validation", "test")
        for labelled in select_labels(site, split=split, arm="manual", required=False)
    )


def labelled_cases(data: Path, folder: Path) -> tuple[LabelledCase, ...]:
    """Every case, imported into one site."""
    (site,) = import_sites(data, folder, sites={"all": None})
    return every_label(site)


def mean_dice(dice: Mapping[str, float]) -> float:
    """Over the two parts that a network learns, without their union."""
    return statistics.fmean(dice[name] for name in ("anterior", "posterior"))
