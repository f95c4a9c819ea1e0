"""What sixteen annotators were told, and what in it is not as it must be."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segfed.errors import SegfedError
from segfed.files import sha256_bytes
from segfed.sites import Site
from segfed.volumes import read_label

MOST_GROWTH = 0.15
"""Of a process's memory, from the second tenth of the run to the last."""


@dataclass
class Notes:
    """What the annotators were told, and what was measured meanwhile."""

    saved: list[dict[str, Any]] = field(default_factory=list)
    sent: dict[int, str] = field(default_factory=dict)
    """Hash of the voxels that were sent, by the number of the record."""

    proposal_seconds: list[float] = field(default_factory=list)
    click_seconds: list[float] = field(default_factory=list)
    save_seconds: list[float] = field(default_factory=list)
    info_seconds: list[float] = field(default_factory=list)
    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    """Server and worker, once a second from the first corrected proposal on."""

    failures: list[str] = field(default_factory=list)


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Note how long a block took."""
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)


def findings(site: Site, notes: Notes) -> list[str]:
    """What is not as it must be."""
    found = list(notes.failures)
    ledger = site.ledger()
    try:
        ledger.verify()
    except SegfedError as error:
        found.append(str(error))
    records = {record.record_id: record for record in ledger.records()}
    if len(notes.sent) != len(notes.saved):
        found.append("two answers name the same record")
    lost, extra = notes.sent.keys() - records.keys(), records.keys() - notes.sent.keys()
    if lost or extra:
        found.append(f"{len(lost)} records lost, {len(extra)} that nobody was told of")
    readings = Counter(record.assignment for record in records.values())
    found += [f"assignment {which} has {n} records" for which, n in readings.items() if n != 1]
    for saved in notes.saved:
        if (record := records.get(saved["record"])) is None:
            continue  # lost, as is said above
        stored = read_label(ledger.label_path(record.label_sha256)).data[0]
        made = "manual" if record.origin == "manual" else "assisted"
        if sha256_bytes(stored.tobytes()) != notes.sent[record.record_id]:
            found.append(f"record {record.record_id} holds another label than was sent")
        if (record.reader, record.case_id) != (saved["reader"], saved["image"]):
            found.append(f"record {record.record_id} is another reader's or case's")
        if (record.arm, record.status) != (made, "submitted"):
            found.append(f"record {record.record_id}: {record.origin} in the {record.arm} arm")
    n_noted = sum(
        event.kind == "clicked"
        for saved in notes.saved
        for event in ledger.events(saved["reader"], saved["image"])
    )
    if n_noted != len(notes.click_seconds):
        found.append(f"{len(notes.click_seconds)} clicks were answered, {n_noted} are noted")
    if not memory(notes):
        found.append("too short to tell whether memory grows: give it more minutes")
    for name, (_, before, *_, after) in memory(notes).items():
        if after > before * (1 + MOST_GROWTH):
            found.append(f"the {name} grew from {before:.0f} to {after:.0f} MB")
    return found


def memory(notes: Notes) -> dict[str, list[float]]:
    """Median memory in MB in each tenth of the run; nothing if it was too short to tell."""
    if len(notes.memory_mb) < 10:
        return {}
    tenths = np.array_split(np.array(notes.memory_mb), 10)
    medians = [np.median(tenth, axis=0) for tenth in tenths]
    return {name: [float(m[i]) for m in medians] for i, name in enumerate(("server", "worker"))}


def described(times_ms: NDArray[np.float64]) -> str:
    """Percentiles, and whether they grow with the number of labels."""
    if len(times_ms) < 10:
        return f"n {len(times_ms)}"
    p50, p95 = np.percentile(times_ms, [50, 95])
    tenths = " ".join(f"{np.median(tenth):.0f}" for tenth in np.array_split(times_ms, 10))
    return (
        f"n {len(times_ms)}, p50 {p50:.0f}, p95 {p95:.0f}, max {times_ms.max():.0f} ms; "
        f"p50 in each tenth of the run: {tenths}"
    )
