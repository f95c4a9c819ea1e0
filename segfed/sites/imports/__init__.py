"""Data sets as others publish them, read into sites."""

from segfed.sites.imports.brats import find_brats, import_brats
from segfed.sites.imports.kits import find_kits, import_kits
from segfed.sites.imports.msd import find_msd, import_msd
from segfed.sites.imports.nifti import import_nifti
from segfed.sites.imports.placement import Placement, place_cases
from segfed.sites.imports.source import (
    ImportSummary,
    OnCase,
    SourceCase,
    import_cases,
    read_source_label,
)

__all__ = [
    "ImportSummary",
    "OnCase",
    "Placement",
    "SourceCase",
    "find_brats",
    "find_kits",
    "find_msd",
    "import_brats",
    "import_cases",
    "import_kits",
    "import_msd",
    "import_nifti",
    "place_cases",
    "read_source_label",
]
