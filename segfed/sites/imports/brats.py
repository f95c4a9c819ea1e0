"""Import of BraTS cases: a file a channel, ``<case>-t1c.nii.gz`` or ``<case>_t1ce.nii.gz``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from segfed.errors import CaseError, ConfigError
from segfed.sites.imports.placement import read_rows
from segfed.sites.imports.source import ImportSummary, OnCase, SourceCase, import_cases
from segfed.sites.tasks import Task, load_task

_FILE_NAME = re.compile(r"(?P<case>.+)[-_](?P<channel>[A-Za-z0-9]+)\.nii(\.gz)?")
_TIMEPOINT = re.compile(r"(?P<patient>BraTS-\w+-\d{5})-\d{3}")
"""Since 2023 a case's name ends with the number of the patient's scan."""


def import_brats(
    folder: Path,
    sites_root: Path,
    *,
    source: str,
    task: str | Path = "brain_tumor",
    table: Path | None = None,
    sites: Mapping[str, int | None] | None = None,
    seed: int = 0,
    on_case: OnCase | None = None,
) -> ImportSummary:
    """Read BraTS cases into sites.

    Args:
        folder: A case's folder, or a folder of such folders.
        sites_root: Folder of the site folders.
        source: ``brats2021``, ``brats2023``, …: what the label values mean. It is never guessed
            from them: 4 is enhancing tumor in one year and a resection cavity in another.
        task: Built-in task or task file.
        table: CSV with ``case_id`` and any of ``site``, ``split``, ``patient_id``.
        sites: Without a column ``site``: cases per site, see `place_cases`.
        seed: Seed of the rules.
        on_case: See `import_cases`, which also says what is refused.

    Raises:
        ConfigError: If there is no case in the folder.
        CaseError: If a file is no channel of the task, or two files are the same channel.
    """
    found = find_brats(folder, task=load_task(task))
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


def find_brats(folder: Path, *, task: Task) -> tuple[SourceCase, ...]:
    """The cases below a folder; channels go by name or alias, in any case (``t2W``).

    Raises:
        ConfigError: If there is no case below the folder.
        CaseError: If a file is no channel of the task, or two files are the same channel.
    """
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*.nii*")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None or path.name.startswith("._"):
            continue
        suffix = match["channel"]
        name = "seg" if suffix.lower() == "seg" else task.channel_named(suffix)
        other = files.setdefault(match["case"], {}).setdefault(name, path)
        if other != path:
            raise CaseError(
                f"Case {match['case']}: {other} and {path} are both {name}, expected one file a "
                "channel. Remove one."
            )
    if not files:
        raise ConfigError(
            f"No BraTS case below {folder}; expected files such as BraTS-GLI-00000-000-t1c.nii.gz. "
            "Check the path."
        )
    return tuple(
        SourceCase(
            case_id=case_id,
            patient_id=match["patient"] if (match := _TIMEPOINT.fullmatch(case_id)) else case_id,
            channels={name: path for name, path in found.items() if name != "seg"},
            label=found.get("seg"),
        )
        for case_id, found in files.items()
    )
