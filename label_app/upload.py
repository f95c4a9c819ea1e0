"""A label that came in over the network: nothing in it is believed before it is checked."""

from __future__ import annotations

from pathlib import Path

from segfed.sites import Case, Site
from segfed.volumes import Volume, check_same_grid, read_grid, read_label


def read_upload(upload: Path, site: Site, case: Case) -> Volume:
    """The label in an uploaded file (1, I, J, K).

    Its header is compared with the case's image before a voxel is read: a small file may claim,
    and unpack to, more than the memory holds.

    Raises:
        VolumeError: If the file cannot be read.
        GeometryError: If it does not lie on the image's grid.
    """
    check_same_grid(
        read_grid(upload),
        read_grid(case.channels[site.task.display_channel]),
        name=f"submitted label of case {case.case_id}",
        reference="its image",
    )
    return read_label(upload)
