"""A simulated reader at a label server, asking for what 3D Slicer's module asks, in its order.

Readers are simulated: their contours, seconds and habits are made up (`segfed.phantom.readers`).
The server, its REST interface and the records that it keeps are real.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from segfed.errors import ServerError
from segfed.files import sha256_bytes
from segfed.phantom.readers import Drawing, Reader, correct, draw, load_reader
from segfed.phantom.recipe import truth_path
from segfed.phantom.slicer import SlicerClient
from segfed.sites import Site
from segfed.volumes import Volume, check_same_grid, read_label

ASSISTED_READER = "assisted-reader"
"""The simulated reader who corrects proposals, with the habits of each site's manual reader."""


@dataclass(frozen=True)
class AnnotatedCase:
    """One label that the reader submitted."""

    case_id: str
    origin: str
    """How the label came about, as the server inferred it."""

    status: str
    edit_seconds: float
    """Simulated working time."""

    n_regions: int
    """Regions that were drawn or redrawn."""


@dataclass(frozen=True)
class AnnotationSummary:
    """What one reader did at one site."""

    site: str
    reader: str
    cases: tuple[AnnotatedCase, ...]
    wall_seconds: float
    """Time that server and simulation really took."""

    @property
    def n_cases(self) -> int:
        """Labels submitted."""
        return len(self.cases)

    @property
    def edit_seconds(self) -> float:
        """Simulated working time in all."""
        return sum(case.edit_seconds for case in self.cases)

    @property
    def origins(self) -> dict[str, int]:
        """Labels of each origin."""
        return dict(Counter(case.origin for case in self.cases))


def assign_assisted(site: Site) -> Reader:
    """The reader who corrects proposals for a synthetic site's training cases, now assigned them.

    The site's manual reader has labelled all of them already. An assignment that exists stays as
    it is, so that a reader who was interrupted goes on where they stopped.

    Raises:
        ConfigError: If the site is not synthetic.
    """
    reader = load_reader(site.folder).model_copy(update={"name": ASSISTED_READER})
    ledger = site.ledger()
    for case in site.split("train"):
        if ledger.assignment(reader.name, case.case_id) is None:
            ledger.assign(reader.name, case.case_id, "assisted")
    return reader


def annotate_site(
    url: str,
    site: Site,
    reader: Reader,
    *,
    seed: int = 0,
    on_case: Callable[[AnnotatedCase], None] | None = None,
    transport: httpx.BaseTransport | None = None,
) -> AnnotationSummary:
    """Work through every case that the server has for its reader.

    Where the server offers a model, the reader corrects its proposal; without one, and where the
    proposal is empty, they draw by hand. The truth that they look for is the phantom's.

    Args:
        url: The label server.
        site: The synthetic site that it serves.
        reader: The reader's habits.
        seed: Of the reader's errors; the same case and seed give the same contour.
        on_case: Called after each label that was saved.
        transport: How requests travel; over the network unless given.

    Raises:
        ServerError: If the server refuses a request or answers otherwise than Slicer expects.
    """
    start = time.perf_counter()
    cases: list[AnnotatedCase] = []
    with SlicerClient(url, site.task, client_id=reader.name, transport=transport) as client:
        info = client.info()
        while sample := client.next_sample(info):
            case_id = str(sample["id"])
            if case_id in {case.case_id for case in cases}:
                raise ServerError(
                    f"The label server at {url} offers case {case_id} again after its label was "
                    "saved; expected another case or none. Look into the server's log."
                )
            cases.append(_read_case(client, site, reader, info=info, sample=sample, seed=seed))
            if on_case:
                on_case(cases[-1])
            info = client.info()
    return AnnotationSummary(site.name, reader.name, tuple(cases), time.perf_counter() - start)


def _read_case(
    client: SlicerClient,
    site: Site,
    reader: Reader,
    *,
    info: Mapping[str, Any],
    sample: Mapping[str, Any],
    seed: int,
) -> AnnotatedCase:
    """Open a case, look at its proposal if there is one, and submit a label."""
    case_id = str(sample["id"])
    grid = client.download_grid(sample)
    proposal = client.propose(info, case_id, grid=grid)
    truth = read_label(truth_path(site.folder, case_id))
    check_same_grid(truth.grid, grid, name=f"truth of case {case_id}", reference="served image")
    rng = np.random.default_rng([seed, int(sha256_bytes(case_id.encode())[:8], 16)])
    drawing = _drawing(proposal, truth, reader, rng)
    saved = client.save(info, case_id, Volume(drawing.label[np.newaxis], grid))
    return AnnotatedCase(
        case_id,
        str(saved["origin"]),
        str(saved["status"]),
        drawing.edit_seconds,
        drawing.n_regions,
    )


def _drawing(
    proposal: NDArray[np.uint8] | None, truth: Volume, reader: Reader, rng: np.random.Generator
) -> Drawing:
    """What the reader makes of a case; a mask without a voxel is nothing to correct."""
    spacing_mm = truth.grid.spacing_mm
    if proposal is None or not proposal.any():
        return draw(truth.data[0], reader, spacing_mm=spacing_mm, rng=rng)
    return correct(proposal, truth.data[0], reader, spacing_mm=spacing_mm, rng=rng)
