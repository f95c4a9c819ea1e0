"""Import of a Medical Segmentation Decathlon folder (http://medicaldecathlon.com)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segfed.errors import ConfigError
from segfed.sites.imports.source import SourceCase
from segfed.sites.tasks import Task


def find_msd(folder: Path, *, task: Task, source: str = "msd") -> tuple[SourceCase, ...]:
    """The training cases that a ``dataset.json`` lists.

    Args:
        folder: The folder with ``dataset.json``.
        task: A task with one channel.
        source: The task's table for the label values.

    Raises:
        ConfigError: If the file is missing, damaged, or contradicts the task.
    """
    path = folder / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        modalities, labels = content["modality"], content["labels"]
        pairs = [(folder / pair["image"], folder / pair["label"]) for pair in content["training"]]
    except FileNotFoundError:
        raise ConfigError(
            f"No Decathlon data set at {folder}: {path.name} is missing. Give the folder that "
            "holds dataset.json, imagesTr and labelsTr."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is not a Decathlon file: {error!r}; expected JSON with modality, labels and "
            "training. Restore the file from the data set."
        ) from error
    _check_contents(path, modalities, labels, task=task, source=source)
    # Archives made on macOS carry a "._" twin of every file, and some lists name them.
    return tuple(
        SourceCase(_stem(image), _stem(image), {task.display_channel: image}, label)
        for image, label in pairs
        if not image.name.startswith("._")
    )


def _check_contents(path: Path, modalities: Any, labels: Any, *, task: Task, source: str) -> None:
    """Refuse a data set with other channels or label values than the task expects."""
    if len(modalities) != 1 or len(task.channels) != 1:
        raise ConfigError(
            f"{path} lists the channels {modalities} and task {task.name!r} has "
            f"{list(task.channels)}; expected one of each, because the Decathlon joins several "
            "channels in one 4D file. Split them into one file a channel and import those with "
            "a table (format nifti)."
        )
    values = {int(value) for value in labels}
    known = set(task.remap_table(source))
    if not values <= known:
        raise ConfigError(
            f"{path} lists the label values {labels}, but task {task.name!r} knows {sorted(known)} "
            f"from {source!r}. Add the missing values to [remaps.{source}] in the task file."
        )


def _stem(path: Path) -> str:
    """A file's name without its extensions."""
    return path.name.split(".")[0]
