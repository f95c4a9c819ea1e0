"""The part that every import shares: from cases as found to cases in sites."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segfed.errors import (
    CaseError,
    ConfigError,
    GeometryError,
    LabelError,
    SegfedError,
    VolumeError,
    raise_together,
)
from segfed.protocol import Split
from segfed.settings import validated
from segfed.sites.cases import Case, list_case, naming_case
from segfed.sites.images import place_images
from segfed.sites.imports.placement import Placement, place_cases
from segfed.sites.labels import checked_label, store_label, submit_label
from segfed.sites.site import SITE_FILE, Site, SiteSettings, create_site, load_site
from segfed.sites.tasks import Task, load_task
from segfed.volumes import Volume, check_same_grid, read_grid, read_label

IMPORT_READER = "import"
"""The reader in whose name hand labels of published data are recorded."""

_SHOWN = 10
"""Missing files that one message names."""

OnCase = Callable[[int, int], None]
"""Called after each case with the number done and the number in all."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceCase:
    """A case as it lies in somebody else's folder."""

    case_id: str
    patient_id: str
    channels: Mapping[str, Path]
    """File of each channel, by the task's names; empty where only a label is there."""

    label: Path | None


@dataclass(frozen=True)
class ImportSummary:
    """What an import did."""

    counts: dict[str, dict[Split, int]]
    """Cases per site and split, those that were there already included."""

    n_new: int
    n_known: int
    """Cases that an earlier run had imported."""

    left_out: tuple[str, ...]
    """Cases of the source that neither table nor rule placed."""


def import_cases(
    found: Sequence[SourceCase],
    *,
    sites_root: Path,
    task: str | Path,
    source: str,
    rows: Sequence[Mapping[str, str]] = (),
    sites: Mapping[str, int | None] | None = None,
    seed: int = 0,
    on_case: OnCase | None = None,
) -> ImportSummary:
    """Put cases with their hand labels into sites below a folder, creating sites as needed.

    A case is there whole or not at all, and an import may be stopped and run again: what is
    there with the same content is kept, what is there with another content is refused. Where
    cases cannot be used, all others are imported before the error that names them.

    Args:
        found: The cases of the source.
        sites_root: Folder of the site folders, which carry the sites' names.
        task: Built-in task or task file.
        source: Where the labels come from: picks the task's table of label values.
        rows: Lines of a table that says where cases go, see `place_cases`.
        sites: Where the table has no column ``site``: cases per site.
        seed: Seed of the rules.
        on_case: Called after each case.

    Raises:
        CaseError: If a case has no image, or differs from the one that is already there; or if
            several cases cannot be used, for whatever reason.
        ConfigError: If the task has no table for the source, a site has another task or an
            impossible name, or nothing says where cases go.
        GeometryError: If a label or channel does not lie on the grid of its image.
        LabelError: If a label holds a value that the source's table does not list.
        VolumeError: If a file cannot be read.
    """
    definition = load_task(task)
    definition.remap_table(source)
    by_id = {case.case_id: case for case in found}
    patients = {case.case_id: case.patient_id for case in found}
    placements = place_cases(patients, rows=rows, sites=sites, seed=seed)
    settings = {
        name: validated(
            {"name": name, "task": str(task)}, SiteSettings, source=f"Site {name!r} of the import"
        )
        for name in dict.fromkeys(placement.site for placement in placements)
    }
    _check_complete([by_id[placement.case_id] for placement in placements], definition)
    folders = {name: sites_root / name for name in settings}
    opened = {name: _open_site(folder, settings[name]) for name, folder in folders.items()}
    n_new = 0
    problems: list[SegfedError] = []
    for done, placement in enumerate(placements, start=1):
        case = by_id[placement.case_id]
        try:
            n_new += _import_case(opened[placement.site], case, placement, source=source)
        except (CaseError, GeometryError, LabelError, VolumeError) as error:
            problems.append(error)
        if on_case:
            on_case(done, len(placements))
    raise_together(
        problems,
        advice="The other cases are imported. Correct these and run the same import again, or "
        "leave them out with a table.",
    )
    logger.info("imported %d cases into %s", n_new, ", ".join(folders))
    return ImportSummary(
        counts=_counts(folders),
        n_new=n_new,
        n_known=len(placements) - n_new,
        left_out=tuple(sorted(by_id.keys() - {placement.case_id for placement in placements})),
    )


def read_source_label(path: Path, *, task: Task, source: str, case_id: str) -> Volume:
    """A label file in the task's values, by the table of its declared source.

    Raises:
        ConfigError: If the task has no table for the source.
        LabelError: If the label holds a value that the table does not list.
        VolumeError: If the file cannot be read as a label.
    """
    label = read_label(path)
    data = task.remap_label(label.data, source=source, case_id=case_id, path=path)
    return Volume(data, label.grid)


def _import_case(site: Site, case: SourceCase, placement: Placement, *, source: str) -> bool:
    """Whether the case was new: its images first, its label next, its line in the list last."""
    known = any(other.case_id == case.case_id for other in site.cases)
    with naming_case(case.case_id):
        label = _read_label_for(case, case.label, site.task, source) if case.label else None
    placed = place_images(
        site.folder,
        task=site.task,
        case_id=case.case_id,
        patient_id=placement.patient_id,
        split=placement.split,
        channels=case.channels,
    )
    if label is not None:
        # The case is not listed yet; the label belongs to it all the same.
        _record_label(replace(site, cases=(*site.cases, placed)), placed, label)
    list_case(site.folder, placed, task=site.task)
    return not known


def _read_label_for(case: SourceCase, path: Path, task: Task, source: str) -> Volume:
    """The case's label in the task's values, on the grid of its image."""
    label = read_source_label(path, task=task, source=source, case_id=case.case_id)
    image_path = case.channels[task.display_channel]
    check_same_grid(
        label.grid,
        read_grid(image_path),
        name=f"label {path} of case {case.case_id}",
        reference=f"image {image_path}",
    )
    return label


def _record_label(site: Site, case: Case, label: Volume) -> None:
    """Record an imported hand label once."""
    records = [
        record for record in site.ledger().records(case.case_id) if record.reader == IMPORT_READER
    ]
    if not records:
        submit_label(
            site,
            case_id=case.case_id,
            label=label,
            origin="manual",
            arm="manual",
            reader=IMPORT_READER,
        )
        return
    found = store_label(site.folder, checked_label(site, case, label))
    if found != records[-1].label_sha256:
        raise CaseError(
            f"Case {case.case_id} was imported into site {site.name} with label "
            f"{records[-1].label_sha256[:12]}, but the source now holds {found[:12]}. An import "
            "never replaces a label: submit the new one through the label app, or give the case "
            "another name."
        )


def _check_complete(cases: Sequence[SourceCase], task: Task) -> None:
    """Refuse, before anything is written, cases without an image or with missing files."""
    problems = []
    for case in cases:
        absent = [channel for channel in task.channels if channel not in case.channels]
        problems += [f"case {case.case_id} has no image of channel {name}" for name in absent]
        files = [*case.channels.values(), *([case.label] if case.label else [])]
        problems += [
            f"case {case.case_id}: {path} is missing" for path in files if not path.is_file()
        ]
    if problems:
        n_hidden = max(len(problems) - _SHOWN, 0)
        shown = [*problems[:_SHOWN], *([f"and {n_hidden} more"] if n_hidden else [])]
        raise CaseError(
            f"{len(problems)} file(s) are missing where task {task.name!r} expects "
            f"{', '.join(task.channels)} for every case: {'; '.join(shown)}. Add the files, or "
            "leave these cases out with a table."
        )


def _counts(folders: Mapping[str, Path]) -> dict[str, dict[Split, int]]:
    """Cases per site and split."""
    cases_of = {name: load_site(folder).cases for name, folder in folders.items()}
    return {name: dict(Counter(case.split for case in cases)) for name, cases in cases_of.items()}


def _open_site(folder: Path, settings: SiteSettings) -> Site:
    """The site in a folder, created where there is none."""
    if not (folder / SITE_FILE).exists():
        return create_site(folder, settings)
    site, wanted = load_site(folder), load_task(settings.task)
    if site.task != wanted:
        raise ConfigError(
            f"Site {site.name} in {folder} has task {site.task.name!r}, but the import is for "
            f"{wanted.name!r} or another version of it. Choose another folder, or import with "
            "the site's own task."
        )
    return site
