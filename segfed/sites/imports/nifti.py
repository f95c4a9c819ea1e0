"""Import of plain image and label files that a table lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from segfed.errors import ConfigError
from segfed.sites.imports.placement import TABLE_COLUMNS, read_rows
from segfed.sites.imports.source import SourceCase
from segfed.sites.tasks import Task


def read_table(table: Path, *, task: Task) -> list[dict[str, str]]:
    """The lines of a table of images and labels.

    Args:
        table: CSV with ``case_id``, a column for each channel (or ``image``, where the task has
            one channel), and any of ``label``, ``patient_id``, ``site``, ``split``.
        task: Names the channels.

    Raises:
        ConfigError: If the table has an unknown column.
    """
    aliases = [*task.channels, *task.channel_aliases, "label"]
    single = ["image"] if len(task.channels) == 1 else []
    return read_rows(table, columns=[*TABLE_COLUMNS, *single, *aliases])


def find_nifti(
    rows: Sequence[Mapping[str, str]], *, table: Path, task: Task
) -> tuple[SourceCase, ...]:
    """The cases of a table; its paths are relative to it.

    Raises:
        ConfigError: If two columns give the same channel.
    """
    return tuple(_source_case(row, table, task) for row in rows)


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
