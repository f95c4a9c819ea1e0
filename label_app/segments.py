"""Between the values of a task and the segments of 3D Slicer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from segfed.errors import LabelError
from segfed.sites import Task
from segfed.volumes import Volume
from transforms import remap_label


def segments_present(label: Volume, task: Task) -> dict[str, int]:
    """Name and value of every structure that a label holds, by rising value.

    Slicer gives the n-th value that it finds in a label the n-th of these names, so that naming
    an absent one would rename all that follow.
    """
    by_value = sorted(task.labels.items(), key=lambda item: item[1])
    # A comparison for each value: np.unique would sort all voxels.
    return {name: value for name, value in by_value if (label.data == value).any()}


def task_label(label: Volume, label_info: object, task: Task) -> Volume:
    """A label in the task's values, from one in which Slicer numbered the reader's segments.

    Slicer exports segments as 1, 2, … in the order of its list, whatever they were before, and
    says which name has which number.

    Args:
        label: The label as it was sent.
        label_info: Slicer's ``[{"name": …, "idx": …}, …]``; empty or None if the client sent none
            and the values are the task's own.
        task: The site's task.

    Raises:
        LabelError: If the list cannot be read, or a segment that holds voxels has a name that the
            task does not know.
    """
    if not label_info:
        return label
    names = _names_by_number(label_info)
    known = {name.casefold(): value for name, value in task.labels.items()}
    table: dict[int, int] = {}
    for number in np.unique(label.data[label.data > 0]).tolist():
        name = names.get(number, f"value {number}")
        if name.casefold() not in known:
            raise LabelError(
                f"The submitted label has voxels in a segment named {name!r}, but task "
                f"{task.name!r} knows {', '.join(task.labels)}. Rename the segment, or move its "
                "voxels to one of these, and submit again."
            )
        table[number] = known[name.casefold()]
    return Volume(remap_label(label.data, table), label.grid)


def _names_by_number(label_info: object) -> Mapping[int, str]:
    """Slicer's list of segments as a table."""
    entries: Any = label_info
    try:
        return {int(entry["idx"]): str(entry["name"]) for entry in entries}
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise LabelError(
            f"Found label_info {label_info!r}; expected a list with 'name' and 'idx' of every "
            "segment. Submit the label from 3D Slicer, or leave label_info out."
        ) from error
