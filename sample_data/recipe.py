"""Makes the synthetic cases that lie beside this file: ``python sample_data/recipe.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from segfed.phantom import CaseCounts, generate_sites
from segfed.sites import Site

SEED = 2026
COUNTS = CaseCounts(warmup=1, train=2, validation=1, test=1)
SPACING_MM = {"kidney_tumor": 6.0, "brain_tumor": 5.0}
"""Coarse, so that all cases together stay under 2 MB."""


def make(folder: Path) -> tuple[Site, ...]:
    """One small site of each task; sites that are there already are kept."""
    return tuple(
        site
        for task, spacing_mm in SPACING_MM.items()
        for site in generate_sites(
            folder / task,
            task=task,
            n_sites=1,
            n_external=0,
            counts=COUNTS,
            spacing_mm=spacing_mm,
            seed=SEED,
        )
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
