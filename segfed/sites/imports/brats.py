"""Import of BraTS cases: a file a channel, ``<case>-t1c.nii.gz`` or ``<case>_t1ce.nii.gz``."""

from __future__ import annotations

import re
from pathlib import Path

from segfed.errors import CaseError, ConfigError
from segfed.sites.imports.source import SourceCase
from segfed.sites.tasks import Task

_FILE_NAME = re.compile(r"(?P<case>.+)[-_](?P<channel>[A-Za-z0-9]+)\.nii(\.gz)?")
_TIMEPOINT = re.compile(r"(?P<patient>BraTS-\w+-\d{5})-\d{3}")
"""Since 2023 a case's name ends with the number of the patient's scan."""


def find_brats(folder: Path, *, task: Task) -> tuple[SourceCase, ...]:
    """The cases below a folder; channels go by name or alias, in any case (``t2W``).

    Args:
        folder: A case's folder, or a folder of such folders.
        task: Names the channels.

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
