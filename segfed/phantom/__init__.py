"""Phantoms: synthetic sites, CT rendered around real masks, and simulated readers."""

from segfed.phantom.generate import (
    MANUAL_READER,
    TEST_READER,
    CaseCounts,
    generate_sites,
)
from segfed.phantom.readers import Drawing, Reader, correct, draw, load_reader
from segfed.phantom.recipe import truth_path
from segfed.phantom.rendered import sites_from_labels
from segfed.phantom.scanner import Scanner

__all__ = [
    "MANUAL_READER",
    "TEST_READER",
    "CaseCounts",
    "Drawing",
    "Reader",
    "Scanner",
    "correct",
    "draw",
    "generate_sites",
    "load_reader",
    "sites_from_labels",
    "truth_path",
]
