"""Scans that a study seems to hold twice: at two sites, or in training and in testing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from segfed.sites import Site
from segfed.sites.keyed_scans import KEY_BYTES, keyed_scans
from segfed.sites.overlap import describe, same_scans

_SHOWN = 10


def duplicate_warnings(sites: Sequence[Site]) -> Iterator[str]:
    """One sentence for the pairs that are tested on and trained on, one for all others.

    A copy that was written anew, resampled or cut has another hash than its original; it is found
    by its marks. That is a strong sign and no proof, so that it is told and not refused.

    Raises:
        VolumeError: If an image cannot be read.
    """
    key = secrets.token_bytes(KEY_BYTES)  # compared on this machine alone, and never kept
    pairs = same_scans([keyed_scans(site, key) for site in sites])
    cases = {
        (site.name, number): f"{site.name}/{case.case_id}"
        for site in sites
        for number, case in enumerate(site.cases, start=1)
    }
    found = {
        is_across: list(
            describe(
                [pair for pair in pairs if pair.is_across == is_across],
                lambda site, number: cases[site, number],
            )
        )
        for is_across in (True, False)
    }
    if found[True]:
        yield (
            f"{len(found[True])} pair(s) of cases, one tested on and one not, seem to be the same "
            f"scan: {_listed(found[True])}. Figures on them flatter the models; look at them, and "
            "keep one of each."
        )
    if found[False]:
        yield (
            f"{len(found[False])} pair(s) of cases on the same side of the test split seem to be "
            f"the same scan and count twice: {_listed(found[False])}."
        )


def _listed(phrases: Sequence[str]) -> str:
    """The first few."""
    more = f"; and {len(phrases) - _SHOWN} more" if len(phrases) > _SHOWN else ""
    return "; ".join(phrases[:_SHOWN]) + more
