"""Whether a case's image is whole: every channel there, unaltered, and of the same place."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segfed.errors import CaseError
from segfed.sites.cases import Case, naming_case
from segfed.sites.images import hash_image
from segfed.volumes import read_channels

MINIMUM_OVERLAP = 0.5
"""Share of one channel's foreground that must lie within another's.

Channels that were registered to each other share nearly all of it. A fifth may be missing where a
sequence covers fewer slices; half is missing only where the channels show different places or
patients. Shifts of a few millimetres and mirrored images are not found this way.
"""


def check_intact(case: Case) -> None:
    """Refuse a case whose image cannot be worked on; the channel at fault is named.

    Raises:
        CaseError: If a channel's file is missing or was altered since its import, holds one value
            only, or shows another place than the first channel.
        GeometryError: If the channels lie on different grids.
        VolumeError: If a channel cannot be read.
    """
    missing = [f"{name} ({path})" for name, path in case.channels.items() if not path.is_file()]
    if missing:
        raise CaseError(
            f"Case {case.case_id}: channel {', '.join(missing)} is missing, expected one image "
            "for each channel. Restore it from a backup, or go on with another case."
        )
    found = hash_image(case.channels.values())
    if found != case.image_sha256:
        raise CaseError(
            f"Case {case.case_id}: the image has the hash {found[:12]}, expected "
            f"{case.image_sha256[:12]} as it was imported. Restore the image from a backup: "
            "labels belong to the image on which they were drawn."
        )
    if len(case.channels) > 1:
        _check_channels(case.case_id, found, tuple(case.channels.items()))


@lru_cache(maxsize=4096)
def _check_channels(
    case_id: str,
    image_sha256: str,  # noqa: ARG001 -- what was checked once need not be read again
    channels: tuple[tuple[str, Path], ...],
) -> None:
    """Refuse channels that lie on different grids, are empty, or show different places."""
    with naming_case(case_id):
        volume = read_channels(dict(channels))
    first, *_ = volume.data
    for (name, path), values in zip(channels, volume.data, strict=True):
        if values.min() == values.max():
            raise CaseError(
                f"Case {case_id}: channel {name} ({path}) holds the value {values.min():g} in "
                "every voxel, expected an image. Import the case again from its source."
            )
        overlap = _overlap(first != 0, values != 0)
        if overlap < MINIMUM_OVERLAP:
            raise CaseError(
                f"Case {case_id}: only {overlap:.0%} of what channel {name} ({path}) shows lies "
                f"where channel {channels[0][0]} shows something, expected at least "
                f"{MINIMUM_OVERLAP:.0%}. The channels show different places: register them, or "
                "import the right files as a new case."
            )


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Share of the smaller mask that lies within the larger; both hold at least one voxel."""
    return float((one & other).sum() / min(one.sum(), other.sum()))
