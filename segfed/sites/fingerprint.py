"""What a plan must know about a site's cases: counts of rounded values, and no case's own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import PositiveInt, model_validator

from segfed.errors import CaseError, ConfigError, SegfedError
from segfed.files import sha256_json, write_json
from segfed.protocol import Arm
from segfed.settings import Settings, validated
from segfed.sites.case_numbers import CaseNumbers, case_numbers, check_contrast
from segfed.sites.cases import Case, naming_case
from segfed.sites.histograms import Histogram
from segfed.sites.labels import checked_label
from segfed.sites.selection import select_labels
from segfed.sites.site import SITE_FILE, Site
from segfed.volumes import read_channels

AxisHistograms = tuple[Histogram, Histogram, Histogram]


class Fingerprint(Settings):
    """A site's training cases in numbers that say nothing about a single one.

    All of them add up over sites. Rounding moves a spacing by 0.5 % at most, a size or an extent by
    2.5 %, an intensity by 1 HU and a volume by a factor of 1.41.
    """

    version: Literal[1] = 1
    site: str
    task: str
    modality: Literal["CT", "MR"]
    channels: tuple[str, ...]
    structures: dict[str, tuple[int, ...]]
    """The task's structures, named sets of label values."""

    arm: Arm
    """Whose labels were measured."""

    n_cases: PositiveInt
    """Training cases; each counts once along every axis."""

    spacing_mm: AxisHistograms
    """Voxel spacing along the RAS axes."""

    size_voxels: AxisHistograms
    """Voxels along the RAS axes."""

    extent_mm: AxisHistograms
    """Field of view along the RAS axes: voxels times spacing."""

    intensity_hu: Histogram | None
    """CT: share of the voxels inside the structures, in millionths of each case; None for MR, and
    where too few cases are labelled."""

    volume_ml: dict[str, Histogram]
    """Volume of each structure in the cases that have it."""

    withheld: tuple[str, ...]
    """Structures that fewer cases have than the site's policy asks for; none may have them."""

    @model_validator(mode="after")
    def _axes_are_of_the_cases(self) -> Self:
        for name in ("spacing_mm", "size_voxels", "extent_mm"):
            for axis in getattr(self, name):
                if axis.total != self.n_cases or axis.values[0] <= 0:
                    raise ValueError(
                        f"{name} counts {axis.total} values from {axis.values[0]:g} upwards; "
                        f"expected {self.n_cases} positive ones, one a case"
                    )
        return self

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON."""
        return sha256_json(self.model_dump(mode="json"))

    def as_json(self) -> dict[str, Any]:
        """The fingerprint and its hash as plain values."""
        return {"sha256": self.sha256, **self.model_dump(mode="json")}


def fingerprint_site(
    site: Site,
    *,
    arm: Arm = "manual",
    workers: int = 2,
    on_case: Callable[[int, int], None] | None = None,
) -> Fingerprint:
    """A site's fingerprint, from its training cases alone.

    Statistics over fewer cases than ``minimum_metric_cases`` of the site's policy are refused, or
    withheld where only a structure is that rare. Unlabelled cases count for the grids.

    Args:
        site: The site, as loaded.
        arm: Whose labels are measured.
        workers: Cases read at the same time; each holds an image and a label in memory.
        on_case: Called after each case with the number done and the number in all.

    Raises:
        CaseError: If there are too few training cases, or naming every case that is damaged.
        LedgerError: If a label's file is missing or was altered.
    """
    cases = site.split("train")
    fewest = site.settings.policy.minimum_metric_cases
    if len(cases) < fewest:
        raise CaseError(
            f"Site {site.name} has {len(cases)} training case(s), but its policy asks for at least "
            f"{fewest} behind any statistic that leaves. Import more cases, or lower "
            f"minimum_metric_cases in {site.folder / SITE_FILE}."
        )
    labelled = select_labels(site, split="train", arm=arm, required=False)
    labels = {item.case.case_id: item.label_path for item in labelled}
    numbers: list[CaseNumbers] = []
    problems: list[str] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            results = pool.map(partial(_measured, site, labels), cases)
            for done, result in enumerate(results, start=1):
                if isinstance(result, str):
                    problems.append(result)
                else:
                    numbers.append(result)
                if on_case:
                    on_case(done, len(cases))
        finally:
            # Someone who stops the command does not want to wait for all the cases behind.
            pool.shutdown(cancel_futures=True)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise CaseError(
            f"Site {site.name}: {len(problems)} of {len(cases)} training cases cannot be measured; "
            f"repair them or import them again, so that the plan is made for every case:\n{lines}"
        )
    return _summed(site, arm=arm, numbers=numbers, fewest=fewest)


def write_fingerprint(fingerprint: Fingerprint, path: Path) -> None:
    """Write a fingerprint as JSON, with its hash; the file appears whole or not at all."""
    write_json(path, fingerprint.as_json())


def read_fingerprint(path: Path) -> Fingerprint:
    """The fingerprint in a file.

    Raises:
        ConfigError: If the file is missing, is no fingerprint, or was changed after it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"Found no fingerprint at {path}; expected the file that `segfed site fingerprint SITE "
            "--out FILE` wrote. Check the path."
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"{path} is not JSON ({error}); expected a fingerprint. Ask the site to write it again."
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no table; expected a fingerprint. Check the path.")
    stated = content.pop("sha256", None)
    fingerprint = validated(content, Fingerprint, source=str(path))
    if fingerprint.sha256 != stated:
        raise ConfigError(
            f"{path} has the hash {fingerprint.sha256[:12]}, but states {str(stated)[:12]}: it was "
            "changed after it was written. Ask the site to send it again."
        )
    return fingerprint


def _measured(site: Site, labels: dict[str, Path], case: Case) -> CaseNumbers | str:
    """What a case adds, or in words what is wrong with it."""
    try:
        with naming_case(case.case_id):
            image = read_channels(case.channels)
            path = labels.get(case.case_id)
            label = checked_label(site, case, path).data[0] if path else None
            check_contrast(image, channels=tuple(case.channels))
            return case_numbers(image, label, task=site.task)
    except SegfedError as error:
        return str(error)


def _summed(site: Site, *, arm: Arm, numbers: Sequence[CaseNumbers], fewest: int) -> Fingerprint:
    """The histograms over all cases, without those of too few."""
    task = site.task
    volumes = {
        name: [case.volume_ml[name] for case in numbers if name in case.volume_ml]
        for name in task.structures
    }
    shown = {name: values for name, values in volumes.items() if len(values) >= fewest}
    intensities = [case.intensity_hu for case in numbers if case.intensity_hu]
    return Fingerprint(
        site=site.name,
        task=task.name,
        modality=task.modality,
        channels=task.channels,
        structures=task.structures,
        arm=arm,
        n_cases=len(numbers),
        spacing_mm=_by_axis(case.spacing_mm for case in numbers),
        size_voxels=_by_axis(case.size_voxels for case in numbers),
        extent_mm=_by_axis(case.extent_mm for case in numbers),
        intensity_hu=(
            Histogram.of_counts(sum(intensities, Counter[float]()))
            if intensities and len(intensities) >= fewest
            else None
        ),
        volume_ml={name: Histogram.of_counts(Counter(values)) for name, values in shown.items()},
        withheld=tuple(name for name in volumes if name not in shown),
    )


def _by_axis(rows: Iterable[tuple[float, ...]]) -> AxisHistograms:
    """A histogram for each of the three axes."""
    i, j, k = (Histogram.of_counts(Counter(column)) for column in zip(*rows, strict=True))
    return i, j, k
