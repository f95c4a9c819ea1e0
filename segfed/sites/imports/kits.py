"""Import of a KiTS folder: ``case_00000/imaging.nii.gz`` and ``segmentation.nii.gz``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segfed.errors import ConfigError
from segfed.sites.imports.placement import read_rows
from segfed.sites.imports.source import ImportSummary, OnCase, SourceCase, import_cases
from segfed.sites.tasks import load_task


def import_kits(
    folder: Path,
    sites_root: Path,
    *,
    source: str,
    task: str | Path = "kidney_tumor",
    table: Path | None = None,
    sites: Mapping[str, int | None] | None = None,
    seed: int = 0,
    on_case: OnCase | None = None,
) -> ImportSummary:
    """Read the cases of a KiTS folder into sites; a case without an image is refused.

    Args:
        folder: The repository, or its folder ``data`` or ``dataset``.
        sites_root: Folder of the site folders.
        source: ``kits19`` or ``kits23``: what the label values mean.
        task: Built-in task or task file, with one channel.
        table: CSV with ``case_id`` and any of ``site``, ``split``, ``patient_id``.
        sites: Without a column ``site``: cases per site, see `place_cases`.
        seed: Seed of the rules.
        on_case: See `import_cases`, which also says what is refused.

    Raises:
        ConfigError: If there is no case in the folder.
    """
    found = find_kits(folder, channel=load_task(task).display_channel)
    return import_cases(
        found,
        sites_root=sites_root,
        task=task,
        source=source,
        rows=read_rows(table) if table else [],
        sites=sites,
        seed=seed,
        on_case=on_case,
    )


def find_kits(folder: Path, *, channel: str = "ct") -> tuple[SourceCase, ...]:
    """The cases of a KiTS folder; those whose image was not downloaded have no channel.

    Raises:
        ConfigError: If there is no case in the folder.
    """
    folders = sorted(
        case
        for place in (folder, folder / "data", folder / "dataset")
        for case in place.glob("case_*")
        if (case / "segmentation.nii.gz").is_file() or (case / "imaging.nii.gz").is_file()
    )
    if not folders:
        raise ConfigError(
            f"No KiTS case at {folder}; expected folders such as case_00000 with imaging.nii.gz "
            "and segmentation.nii.gz, there or in data/ or dataset/. Check the path."
        )
    return tuple(
        SourceCase(
            case_id=case.name,
            patient_id=case.name,
            channels={channel: image} if (image := case / "imaging.nii.gz").is_file() else {},
            label=label if (label := case / "segmentation.nii.gz").is_file() else None,
        )
        for case in folders
    )
