"""Import of plain image and label files that a table lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segfed.errors import ConfigError
from segfed.sites.imports.placement import TABLE_COLUMNS, read_rows
from segfed.sites.imports.source import ImportSummary, OnCase, SourceCase, import_cases
from segfed.sites.tasks import TASK_SOURCE, Task, load_task


def import_nifti(
    table: Path,
    sites_root: Path,
    *,
    task: str | Path,
    source: str = TASK_SOURCE,
    sites: Mapping[str, int | None] | None = None,
    seed: int = 0,
    on_case: OnCase | None = None,
) -> ImportSummary:
    """Read the images and labels of a table into sites.

    Args:
        table: CSV with ``case_id``, a column for each channel (or ``image``, where the task has
            one channel), and any of ``label``, ``patient_id``, ``site``, ``split``. Paths are
            relative to the table.
        sites_root: Folder of the site folders.
        task: Built-in task or task file.
        source: The task's table for the label values; by default they are the task's own.
        sites: Without a column ``site``: cases per site, see `place_cases`.
        seed: Seed of the rules.
        on_case: See `import_cases`, which also says what is refused.

    Raises:
        ConfigError: If the table has an unknown column or none for a channel.
    """
    definition = load_task(task)
    aliases = [*definition.channels, *definition.channel_aliases, "label"]
    single = ["image"] if len(definition.channels) == 1 else []
    rows = read_rows(table, columns=[*TABLE_COLUMNS, *single, *aliases])
    found = [_source_case(row, table, definition) for row in rows]
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


def _source_case(row: Mapping[str, str], table: Path, task: Task) -> SourceCase:
    """One line of the table."""
    channels: dict[str, Path] = {}
    for column, value in row.items():
        if column in (*TABLE_COLUMNS, "label") or not value:
            continue
        name = task.channels[0] if column == "image" else task.channel_named(column)
        if name in channels:
            raise ConfigError(
                f"{table}: two columns give channel {name} of case {row['case_id']}, expected "
                "one. Remove a column."
            )
        channels[name] = table.parent / value
    label = table.parent / row["label"] if row.get("label") else None
    return SourceCase(row["case_id"], row.get("patient_id") or row["case_id"], channels, label)
