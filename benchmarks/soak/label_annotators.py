"""Sixteen annotators at one label server, for minutes: what is lost, and does it slow or swell?

    python -m benchmarks.soak.label_annotators [--minutes 10] [--annotators 16]
        [--think-seconds 4 16]

A real server process over TLS with accounts; each annotator logs in, has cases assigned in both
arms, and goes through 3D Slicer's whole sequence for each, with a pause to think, and with a click
on some of the proposals. Shorter pauses load the server more than sixteen people could. Meanwhile
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from benchmarks.soak.label_notes import Notes, described, findings, memory, timed
from segfed.cli.label_listen import LOOPBACK, Listen
from segfed.cli.label_server import RunningServer, running_server
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
from segfed.volumes import Grid, Volume
from tests.integration.test_label_server import TINY_PLAN, child_processes
from tests.model_samples import publish_untrained
from tests.sites_samples import write_task
from tests.tls_samples import make_certificate

SHAPE = (96, 80, 48)
GRID = Grid(SHAPE, np.diag([3.0, 3.5, 4.0, 1.0]))
LEAST_SECONDS_PER_CASE = 2.0
"""Without a pause, too, a case takes longer than this while fifteen others work."""

CLICKED_SHARE = 0.25
"""Of the proposals: how many the annotators correct with a click first."""

PASSWORD = "a password for nobody"
INFO_PAUSE_SECONDS = 0.2


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


def annotate(
    client: SlicerClient, name: str, *, notes: Notes, think_seconds: Sequence[float], end: float
) -> None:
    """Read cases until the time is over or none is left."""
    rng = np.random.default_rng(int(sha256_bytes(name.encode())[:8], 16))
    time.sleep(rng.uniform(0, think_seconds[1]))  # nobody starts at the same moment
    client.log_in(name, PASSWORD)
    info = client.info()
    while time.monotonic() < end and (sample := client.next_sample(info)):
        case_id = sample["id"]
        grid = client.download_grid(sample)
        client.labels_of(case_id)
        with timed(notes.proposal_seconds):
            proposal = client.propose(info, case_id, grid=grid)
        time.sleep(rng.uniform(*think_seconds))
        label = np.zeros(SHAPE, dtype=np.uint8) if proposal is None else proposal.copy()
        i, j, k = (int(rng.integers(0, n - 16)) for n in SHAPE)
        if label.any() and rng.random() < CLICKED_SHARE:
            with timed(notes.click_seconds):
                clicked = client.click(info, case_id, [(i, j, k)])
            label = label if clicked is None else np.where(clicked, clicked, label)
        label[i : i + 16, j : j + 16, k : k + 16] = rng.integers(0, 3, (16, 16, 16))
        with timed(notes.save_seconds):
            saved = client.save(info, case_id, Volume(label[np.newaxis], grid))
        notes.sent[saved["record"]] = sha256_bytes(label.tobytes())
        notes.saved.append(saved | {"reader": name, "image": case_id})
        info = client.info()


def watch(
    client: SlicerClient, server: RunningServer, *, notes: Notes, stop: threading.Event
) -> None:
    """Ask for /info/, and look at the memory."""
    next_look = 0.0
    while not stop.wait(INFO_PAUSE_SECONDS):
        with timed(notes.info_seconds):
            client.info()
        is_steady = any(saved["origin"] != "manual" for saved in notes.saved)
        if is_steady and time.monotonic() >= next_look:
            next_look = time.monotonic() + 1
            server_mb = rss_mb(psutil.Process(server.process.pid))
            worker_mb = sum(map(rss_mb, child_processes(server.process.pid)))
            notes.memory_mb.append((server_mb, worker_mb))


def rss_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def run(
    site: Site, readers: list[str], *, folder: Path, seconds: float, think_seconds: Sequence[float]
) -> Notes:
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
                annotate(client, name, notes=notes, think_seconds=think_seconds, end=end)
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
            error = watching.exception()  # waits: the client must not be closed under it
        if error:
            notes.failures.append(f"/info/: {type(error).__name__}: {error}")
    return notes


def main() -> int:
    """Run, print the figures, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--annotators", type=int, default=16)
    parser.add_argument("--think-seconds", type=float, nargs=2, default=(4.0, 16.0))
    wishes = parser.parse_args()
    readers = [f"reader{number:02}" for number in range(wishes.annotators)]
    seconds, busy = wishes.minutes * 60, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # More than anybody can read
        n_cases = int(seconds / max(wishes.think_seconds[0], LEAST_SECONDS_PER_CASE)) + 2
        site = make_soak_site(folder, readers=readers, n_cases=n_cases)
        publish_untrained(site, folder / "bundle", plan=TINY_PLAN)
        publish_untrained(site, folder / "clicks", click_label="core", plan=TINY_PLAN)
        notes = run(
            site, readers, folder=folder, seconds=seconds, think_seconds=wishes.think_seconds
        )
        found = findings(site, notes)
    origins = Counter(saved["origin"] for saved in notes.saved)
    print(f"{len(readers)} annotators, {wishes.minutes:g} minutes, {os.cpu_count()} cores")
    print(f"load average at the start, without the soak: {busy:.1f}")
    print(f"labels saved: {len(notes.saved)} {dict(origins)}, {len(notes.saved) / seconds:.2f}/s")
    for what in ("info", "proposal", "click", "save"):
        times = np.array(getattr(notes, f"{what}_seconds")) * 1000
        print(f"{what}: {described(times)}")
    for what, tenths in memory(notes).items():
        print(f"MB of the {what} in each tenth of the run:", *(f"{mb:.0f}" for mb in tenths))
    print("\n".join(found) or "nothing lost, nothing twice, the ledger verifies")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
