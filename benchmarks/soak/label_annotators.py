"""Sixteen annotators at one label server, for minutes: what is lost, and does it slow or swell?

    python -m benchmarks.soak.label_annotators [--minutes 10] [--annotators 16]

A real server process over TLS with accounts; each annotator logs in, has cases assigned in both
arms, and goes through 3D Slicer's whole sequence for each, with a pause to think. Meanwhile
somebody asks for /info/ five times a second. At the end every acknowledged label must be in the
ledger exactly once and as it was sent, the ledger must verify, and the memory of server and
worker must be what it was in the beginning. Exit code 1 if anything is not so.
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from segfed.cli.label_listen import LOOPBACK, Listen
from segfed.cli.label_server import RunningServer, running_server
from segfed.errors import SegfedError
from segfed.files import sha256_bytes
from segfed.phantom.slicer import SlicerClient
from segfed.sites import (
    NewAssignment,
    Site,
    SiteSettings,
    add_account,
    add_case,
    create_site,
    load_site,
)
from segfed.volumes import Grid, Volume, read_label
from tests.integration.test_label_server import child_processes, publish_untrained
from tests.sites_samples import write_task
from tests.tls_samples import make_certificate

SHAPE = (96, 80, 48)
GRID = Grid(SHAPE, np.diag([3.0, 3.5, 4.0, 1.0]))
THINK_SECONDS = (4.0, 16.0)
PASSWORD = "a password for nobody"
INFO_PAUSE_SECONDS = 0.2
MOST_GROWTH = 0.15
"""Of a process's memory, from the second tenth of the run to the last."""


@dataclass
class Notes:
    """What the annotators were told, and what was measured meanwhile."""

    saved: list[dict[str, Any]] = field(default_factory=list)
    sent: dict[int, str] = field(default_factory=dict)
    """Hash of the voxels that were sent, by the number of the record."""

    proposal_seconds: list[float] = field(default_factory=list)
    save_seconds: list[float] = field(default_factory=list)
    info_seconds: list[float] = field(default_factory=list)
    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    """Server and worker, once a second from the first corrected proposal on."""

    failures: list[str] = field(default_factory=list)


def make_soak_site(folder: Path, *, readers: list[str], n_cases: int) -> Site:
    """A site of noise, where every reader has every case: half by hand, half assisted."""
    rng = np.random.default_rng(0)
    settings = SiteSettings(name="soak", task=str(write_task(folder)))
    site = create_site(folder / "soak", settings)
    for index in range(n_cases):
        image = rng.normal(100, 20, size=(1, *SHAPE)).round().astype(np.int16)
        add_case(
            site.folder,
            task=site.task,
            case_id=f"case{index:03}",
            patient_id=f"patient{index:03}",
            split="train",
            channels={"t1": Volume(image, GRID)},
        )
    site = load_site(site.folder)
    for name in readers:
        add_account(site.folder, name=name, role="annotator", password=PASSWORD)
    site.ledger().assign_all(
        NewAssignment(name, site.cases[case].case_id, ("manual", "assisted")[(case + turn) % 2])
        for turn, name in enumerate(readers)
        for case in rng.permutation(n_cases)
    )
    return site


def annotate(client: SlicerClient, name: str, *, notes: Notes, end: float) -> None:
    """Read cases until the time is over or none is left."""
    rng = np.random.default_rng(int(sha256_bytes(name.encode())[:8], 16))
    time.sleep(rng.uniform(0, THINK_SECONDS[1]))  # nobody starts at the same moment
    client.log_in(name, PASSWORD)
    info = client.info()
    while time.monotonic() < end and (sample := client.next_sample(info)):
        case_id = sample["id"]
        grid = client.download_grid(sample)
        client.labels_of(case_id)
        start = time.perf_counter()
        proposal = client.propose(info, case_id, grid=grid)
        notes.proposal_seconds.append(time.perf_counter() - start)
        time.sleep(rng.uniform(*THINK_SECONDS))
        label = np.zeros(SHAPE, dtype=np.uint8) if proposal is None else proposal.copy()
        i, j, k = (int(rng.integers(0, n - 16)) for n in SHAPE)
        label[i : i + 16, j : j + 16, k : k + 16] = rng.integers(0, 3, (16, 16, 16))
        start = time.perf_counter()
        saved = client.save(info, case_id, Volume(label[np.newaxis], grid))
        notes.save_seconds.append(time.perf_counter() - start)
        notes.sent[saved["record"]] = sha256_bytes(label.tobytes())
        notes.saved.append(saved | {"reader": name, "image": case_id})
        info = client.info()


def watch(
    client: SlicerClient, server: RunningServer, *, notes: Notes, stop: threading.Event
) -> None:
    """Ask for /info/, and look at the memory."""
    next_look = 0.0
    while not stop.wait(INFO_PAUSE_SECONDS):
        start = time.perf_counter()
        client.info()
        notes.info_seconds.append(time.perf_counter() - start)
        is_steady = any(saved["origin"] != "manual" for saved in notes.saved)
        if is_steady and time.monotonic() >= next_look:
            next_look = time.monotonic() + 1
            server_mb = rss_mb(psutil.Process(server.process.pid))
            worker_mb = sum(map(rss_mb, child_processes(server.process.pid)))
            notes.memory_mb.append((server_mb, worker_mb))


def rss_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def run(site: Site, readers: list[str], *, folder: Path, seconds: float) -> Notes:
    """Everybody at once."""
    certificate, key = make_certificate(folder)
    trusted = ssl.create_default_context(cafile=certificate)
    listen = Listen(LOOPBACK, 0, certificate, key, public_names=("localhost",))
    notes, stop = Notes(), threading.Event()

    def connect(name: str) -> SlicerClient:
        return SlicerClient(server.url, site.task, client_id=name, verify=trusted)

    def work(name: str) -> None:
        try:
            with connect(name) as client:
                annotate(client, name, notes=notes, end=end)
        except Exception as error:  # noqa: BLE001 -- whatever it was, it is a finding
            notes.failures.append(f"{name}: {type(error).__name__}: {error}")

    with running_server(site.folder, listen=listen, device="cpu") as server:
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(1) as watcher, connect(readers[0]) as client:
            client.log_in(readers[0], PASSWORD)
            watching = watcher.submit(watch, client, server, notes=notes, stop=stop)
            with ThreadPoolExecutor(len(readers)) as pool:
                list(pool.map(work, readers))
            stop.set()
        if error := watching.exception():
            notes.failures.append(f"/info/: {type(error).__name__}: {error}")
    return notes


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
        record = records[saved["record"]]
        stored = read_label(ledger.label_path(record.label_sha256)).data[0]
        made = "manual" if record.origin == "manual" else "assisted"
        if sha256_bytes(stored.tobytes()) != notes.sent[record.record_id]:
            found.append(f"record {record.record_id} holds another label than was sent")
        if (record.reader, record.case_id) != (saved["reader"], saved["image"]):
            found.append(f"record {record.record_id} is another reader's or case's")
        if (record.arm, record.status) != (made, "submitted"):
            found.append(f"record {record.record_id}: {record.origin} in the {record.arm} arm")
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


def main() -> int:
    """Run, print the figures, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--annotators", type=int, default=16)
    wishes = parser.parse_args()
    readers = [f"reader{number:02}" for number in range(wishes.annotators)]
    seconds, busy = wishes.minutes * 60, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_cases = int(seconds / THINK_SECONDS[0]) + 2  # more than anybody can read
        site = make_soak_site(folder, readers=readers, n_cases=n_cases)
        publish_untrained(site, folder / "bundle")
        notes = run(site, readers, folder=folder, seconds=seconds)
        found = findings(site, notes)
    origins = Counter(saved["origin"] for saved in notes.saved)
    print(f"{len(readers)} annotators, {wishes.minutes:g} minutes, {os.cpu_count()} cores")
    print(f"load average at the start, without the soak: {busy:.1f}")
    print(f"labels saved: {len(notes.saved)} {dict(origins)}, {len(notes.saved) / seconds:.2f}/s")
    for what in ("info", "proposal", "save"):
        times = np.array(getattr(notes, f"{what}_seconds")) * 1000
        p50, p95 = np.percentile(times, [50, 95])
        print(f"{what}: n {len(times)}, p50 {p50:.0f}, p95 {p95:.0f}, max {times.max():.0f} ms")
    for what, tenths in memory(notes).items():
        print(f"MB of the {what} in each tenth of the run:", *(f"{mb:.0f}" for mb in tenths))
    print("\n".join(found) or "nothing lost, nothing twice, the ledger verifies")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
