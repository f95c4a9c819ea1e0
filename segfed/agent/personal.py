"""The layers that a site keeps its own of, after each round that it trained.

They lie beside the approvals and not in the cache, which may be emptied at any time: nobody else
has them.
"""

from __future__ import annotations

from pathlib import Path

from segfed.engine import State, read_weights, write_weights

PERSONAL_FOLDER = "personal"


def write_personal(
    site_folder: Path, manifest_sha256: str, *, round_number: int, layers: State
) -> None:
    """Keep a site's layers after a round of a study; those of later rounds are of another run."""
    folder = site_folder / PERSONAL_FOLDER / manifest_sha256
    write_weights(_path(folder, round_number), layers)
    for path in folder.glob("round_*.safetensors"):
        if path.name > _path(folder, round_number).name:
            path.unlink()


def read_personal(site_folder: Path, manifest_sha256: str, *, round_number: int) -> State:
    """A site's layers after a round, or after the last one before it that the site trained.

    Empty where there is none.

    Raises:
        WeightsError: If the file is damaged.
    """
    folder = site_folder / PERSONAL_FOLDER / manifest_sha256
    last = _path(folder, round_number).name
    paths = sorted(path for path in folder.glob("round_*.safetensors") if path.name <= last)
    return read_weights(paths[-1]) if paths else {}


def _path(folder: Path, round_number: int) -> Path:
    """The file of a round; six digits keep names in order."""
    return folder / f"round_{round_number:06d}.safetensors"
