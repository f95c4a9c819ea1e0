"""Data sets as others publish them, read into sites."""

from segfed.sites.imports.brats import find_brats
from segfed.sites.imports.data_set import DataFormat, import_data_set
from segfed.sites.imports.kits import find_kits
from segfed.sites.imports.msd import find_msd
from segfed.sites.imports.source import (
    ImportSummary,
    OnCase,
    SourceCase,
    import_cases,
    read_source_label,
)

__all__ = [
    "DataFormat",
    "ImportSummary",
    "OnCase",
    "SourceCase",
    "find_brats",
    "find_kits",
    "find_msd",
    "import_cases",
    "import_data_set",
    "read_source_label",
]
