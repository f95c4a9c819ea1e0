"""The label server is killed at any moment: nothing that it acknowledged is lost.

pytest tests/integration/test_label_crashes.py --kills 200
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from segfed.cli.label_listen import LOOPBACK, free_port
from segfed.files import remove_leftovers, sha256_file
from segfed.sites import LabelRecord, Site
from segfed.volumes import Volume, read_label, write_label
from tests.integration.warm_server import WarmServer, wait_until_ready, warm_server
from tests.model_samples import publish_untrained
from tests.sites_samples import SEGMENTS, SHAPE, make_grid, make_site

SAVED_CASES = ("case0", "case1", "case2", "case3")
PROPOSED_CASES = ("case4", "case5")
CLICKED_CASES = ("case5",)
BOUND_SECONDS = 180.0
PAUSE_SECONDS = 0.05
WINDOW_SECONDS = 1.0
"""A kill comes at a random moment within so long: many saves, or a start from end to end."""


@dataclass
class Readers:
    """Six readers of a server that comes and goes, each at one case, and what they were told."""

    url: str
    folder: Path
    sent: dict[str, set[bytes]] = field(default_factory=lambda: {c: set() for c in SAVED_CASES})
    acknowledged: list[tuple[str, bytes, dict]] = field(default_factory=list)
    proposals: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    n_cut: int = 0
    """Requests that were under way when the server was killed."""

    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        cases = (*SAVED_CASES, *PROPOSED_CASES)
        with ThreadPoolExecutor(len(cases)) as pool:
            done = [pool.submit(self.read, case_id) for case_id in cases]
            try:
                yield
            finally:
                self.stop.set()
        for reader in done:
            reader.result()

    def read(self, case_id: str) -> None:
        rng = np.random.default_rng(int(case_id[-1]))
        with httpx.Client(base_url=self.url, timeout=BOUND_SECONDS) as client:
            while not self.stop.is_set():
                try:
                    if case_id in PROPOSED_CASES:
                        self.ask(client, case_id, "bean")
                    if case_id in CLICKED_CASES:
                        voxel = rng.integers(0, SHAPE).tolist()
                        self.ask(client, case_id, "bean_clicks", foreground=[voxel])
                    self.save(client, case_id, rng.integers(0, 3, SHAPE, dtype=np.uint8))
                except httpx.ConnectError:
                    pass  # it was killed, and is asked until another one answers
                except httpx.TransportError:
                    self.n_cut += 1
                self.stop.wait(PAUSE_SECONDS)

    def ask(self, client: httpx.Client, case_id: str, model: str, **wishes: object) -> None:
        """Get a proposal, or what a model makes of clicks."""
        data = {"params": json.dumps(wishes)}
        answer = client.post(f"/infer/{model}", params={"image": case_id}, data=data)
        if answer.status_code != 200:
            self.refusals.append(answer.text)
            return
        (sha256,) = re.findall(r'"proposal_sha256": ?"(\w{64})"', answer.text)
        self.proposals.append((case_id, sha256))

    def save(self, client: httpx.Client, case_id: str, label: np.ndarray) -> None:
        path = self.folder / f"{case_id}.nii.gz"
        write_label(Volume(label[np.newaxis], make_grid()), path)
        self.sent.setdefault(case_id, set()).add(label.tobytes())
        answer = client.put(
            "/datastore/label",
            params={"image": case_id},
            data={"params": json.dumps({"label_info": SEGMENTS})},
            files={"label": (path.name, path.read_bytes())},
        )
        if answer.status_code == 200:
            self.acknowledged.append((case_id, label.tobytes(), answer.json()))
        else:
            self.refusals.append(answer.text)


@dataclass
class Books:
    """What the ledger must hold, compared with what it holds."""

    site: Site
    readers: Readers
    content: dict[int, bytes] = field(default_factory=dict)
    """Label of each record that was looked at."""

    def check(self) -> None:
        """Nobody serves the site at the moment."""
        ledger, readers = self.site.ledger(), self.readers
        ledger.verify()  # every chain, and the hash of every label and proposal
        records = {record.record_id: record for record in ledger.records()}
        for number in records.keys() - self.content.keys():
            self.content[number] = self.content_of(records[number])
        for case_id, label, answer in readers.acknowledged:
            record = records[answer["record"]]
            assert (record.case_id, record.label_sha256) == (case_id, answer["label_sha256"])
            assert self.content[record.record_id] == label, "the record is another label's"
        assert len(set(self.content.values())) == len(records), "a label was recorded twice"
        for case_id in PROPOSED_CASES:
            noted = {event.proposal_sha256 for event in ledger.events("ann", case_id)}
            assert noted >= {sha256 for case, sha256 in readers.proposals if case == case_id}
        assert readers.refusals == []

    def content_of(self, record: LabelRecord) -> bytes:
        """The label of a record, whole and as it was sent."""
        label = read_label(self.site.ledger().label_path(record.label_sha256)).data.tobytes()
        assert label in self.readers.sent[record.case_id]
        return label

    def check_origins(self) -> None:
        """No label on which a proposal was seen counts as drawn by hand, whatever died between."""
        for record in self.site.ledger().records():
            is_assisted = record.case_id in PROPOSED_CASES
            assert (record.origin != "manual") == is_assisted, record


@pytest.mark.timeout(3600)
def test_a_killed_server_keeps_every_label_that_it_acknowledged(tmp_path, pytestconfig):
    n_kills = pytestconfig.getoption("--kills")
    rng = np.random.default_rng(0)
    site = make_site(tmp_path, splits=("train",) * 6)
    publish_untrained(site, tmp_path / "bundle")
    publish_untrained(site, tmp_path / "clicks", click_label="core")
    children: list[psutil.Process] = []

    with warm_server(site, reader="ann") as server:
        readers = Readers(server.url, tmp_path)
        books = Books(site, readers)
        with readers.at_work():
            for index in range(n_kills):
                server.start()
                if index % 5:  # every fifth one dies while it starts
                    wait_until_ready(server.url)
                    wait_for_another(readers.proposals)
                    wait_for_another(readers.acknowledged)
                time.sleep(rng.uniform(0, WINDOW_SECONDS))
                children += psutil.Process(server.pid).children(recursive=True)
                server.kill()
                time.sleep(0.05)  # until the readers have noticed
                books.check()
            serve_once_more(server, readers)
        server.kill()
        books.check()

    books.check_origins()
    for case_id in CLICKED_CASES:
        assert "clicked" in {event.kind for event in site.ledger().events("ann", case_id)}
    assert readers.n_cut >= n_kills, "the kills came while the readers were served"
    assert psutil.wait_procs(children, timeout=BOUND_SECONDS)[1] == [], "they outlive the server"
    assert not list((site.folder / "cache" / "label_server").glob(".server-*"))
    remove_leftovers(site.folder / "labels", older_than_seconds=0)
    for path in (site.folder / "labels").iterdir():
        assert path.name == f"{sha256_file(path)}.nii.gz", "it is not whole"


def wait_for_another(answers: list) -> None:
    """Return once there is one more answer."""
    n_before, deadline = len(answers), time.monotonic() + BOUND_SECONDS
    while len(answers) == n_before:
        assert time.monotonic() < deadline, "no answer"
        time.sleep(0.02)


def serve_once_more(server: WarmServer, readers: Readers) -> None:
    """After the last kill all is as if there had been none."""
    server.start()
    wait_until_ready(server.url)
    wait_for_another(readers.acknowledged)
    wait_for_another(readers.proposals)


def test_a_killed_server_starts_again_by_itself_at_the_same_address(tmp_path):
    site = make_site(tmp_path)
    port = free_port(LOOPBACK, 0)
    url = f"http://{LOOPBACK}:{port}"
    before, after = np.random.default_rng(0).integers(0, 3, (2, *SHAPE), dtype=np.uint8)
    command = ("from segfed.cli import main; main()", "label", "serve", str(site.folder))
    with subprocess.Popen(
        (sys.executable, "-c", *command, "--port", str(port), "--reader", "ann"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as keeper:
        try:
            wait_until_ready(url)
            readers = Readers(url, tmp_path)
            with httpx.Client(base_url=url, timeout=BOUND_SECONDS) as client:
                readers.save(client, "case0", before)
                (first,) = psutil.Process(keeper.pid).children()
                first.kill()
                first.wait(BOUND_SECONDS)
            wait_until_ready(url)
            (second,) = psutil.Process(keeper.pid).children()
            with httpx.Client(base_url=url, timeout=BOUND_SECONDS) as client:
                assert client.get("/info/").json()["datastore"]["completed"] == 1
                readers.save(client, "case1", after)
            Books(site, readers).check()
            keeper.terminate()
            said = keeper.stderr.read()
        finally:
            keeper.kill()

    assert second.pid != first.pid
    assert "Starting again in 1 s" in said
    assert psutil.wait_procs([second], timeout=BOUND_SECONDS)[1] == [], "it ends with its keeper"
