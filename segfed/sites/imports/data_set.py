"""Import of a data set in any of the formats that are known here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from segfed.errors import ConfigError
from segfed.sites.imports.brats import find_brats
from segfed.sites.imports.kits import find_kits
from segfed.sites.imports.msd import find_msd
from segfed.sites.imports.nifti import find_nifti, read_table
from segfed.sites.imports.placement import read_rows
from segfed.sites.imports.source import ImportSummary, OnCase, SourceCase, import_cases
from segfed.sites.tasks import TASK_SOURCE, Task, load_task


class DataFormat(StrEnum):
    """How a data set lies on disk."""

    MSD = "msd"
    BRATS = "brats"
    KITS = "kits"
    NIFTI = "nifti"


_DEFAULT_SOURCE = {DataFormat.MSD: "msd", DataFormat.NIFTI: TASK_SOURCE}
"""Formats whose label values mean the same in every data set; the others must say."""


def import_data_set(
    path: Path,
    sites_root: Path,
    *,
    data_format: DataFormat,
    task: str | Path,
    source: str | None = None,
    table: Path | None = None,
    sites: Mapping[str, int | None] | None = None,
    seed: int = 0,
    on_case: OnCase | None = None,
) -> ImportSummary:
    """Read a data set into sites; `import_cases` says what is refused beyond the list below.

    Args:
        path: The data set's folder; for ``nifti`` its table.
        sites_root: Folder of the site folders.
        data_format: How the data set lies on disk.
        task: Built-in task or task file.
        source: ``brats2021``, ``brats2023``, ``kits19``, …: what the label values mean. It is never
            guessed from them: 4 is enhancing tumor in one year and a resection cavity in another.
        table: CSV with ``case_id`` and any of ``site``, ``split``, ``patient_id``; a ``nifti``
            table holds these itself.
        sites: Without a column ``site``: cases per site, see `place_cases`.
        seed: Seed of the rules.
        on_case: See `import_cases`.

    Raises:
        ConfigError: If nothing says what the label values mean, there is no case at the path, or
            the data set contradicts the task.
        CaseError: If a file is no channel of the task, or two files are the same channel.
    """
    source = source or _DEFAULT_SOURCE.get(data_format)
    if source is None:
        raise ConfigError(
            f"Nothing says where the labels of {path} come from; a {data_format} data set needs "
            "it, because the same value means different things in different years. Name it with "
            "--source."
        )
    definition = load_task(task)
    if data_format is DataFormat.NIFTI:
        if table is not None:
            raise ConfigError(
                f"Found the tables {path} and {table}; a {data_format} import takes one, its "
                "argument. Add the columns of the other one to it."
            )
        rows = read_table(path, task=definition)
        found = find_nifti(rows, table=path, task=definition)
    else:
        rows = read_rows(table) if table else []
        found = _find(path, data_format, task=definition, source=source)
    return import_cases(
        found,
        sites_root=sites_root,
        task=task,
        source=source,
        rows=rows,
        sites=sites,
        seed=seed,
        on_case=on_case,
    )


def _find(
    folder: Path, data_format: DataFormat, *, task: Task, source: str
) -> tuple[SourceCase, ...]:
    """The cases of a folder."""
    if data_format is DataFormat.MSD:
        return find_msd(folder, task=task, source=source)
    if data_format is DataFormat.BRATS:
        return find_brats(folder, task=task)
    return find_kits(folder, channel=task.display_channel)
