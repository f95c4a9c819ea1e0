"""Label values: from a source's numbering to the task's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def remap_label(label: NDArray[Any], table: Mapping[int, int]) -> NDArray[np.uint8]:
    """A label with every value replaced by its entry in a table.

    Args:
        label: Whole numbers of any integer type, any shape.
        table: New value of each value that may occur; 0 stays 0 unless it is listed.

    Returns:
        A new array of the same shape and memory order.

    Raises:
        ValueError: If the label holds values that the table does not list; names them all.
    """
    complete = {0: 0, **table}
    if not all(0 <= value <= 255 for value in complete.values()):
        raise ValueError(f"found the table {dict(table)}; expected new values from 0 to 255")
    remapped = np.zeros_like(label, dtype=np.uint8)
    n_known = 0
    for old, new in complete.items():
        here = label == old
        n_known += np.count_nonzero(here)
        remapped[here] = new
    if n_known < label.size:
        unknown = np.unique(label[~np.isin(label, list(complete))]).tolist()
        raise ValueError(
            f"found the label values {unknown}; expected only {sorted(complete)}. Check the "
            "declared source of the labels, or add these values to its table"
        )
    return remapped
