"""The real MONAI Label server process, asked as 3D Slicer asks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from segfed.cli.label import app
from segfed.cli.label_listen import Listen
from segfed.cli.label_server import label_server, running_server
from segfed.cli.server_folder import temporary_folder
from segfed.errors import ServerError
from segfed.phantom import CaseCounts, Reader, generate_sites
from segfed.phantom.annotator import annotate_site
from segfed.sites import Site
from segfed.volumes import Volume, read_label, write_label
from tests.model_samples import publish_untrained
from tests.sites_samples import SEGMENTS, make_label, make_site

SPACING_MM = 12.0
TINY_PLAN = {
    "spacing_mm": [SPACING_MM] * 3,
    "patch_voxels": [16, 16, 16],
    "features": [4, 8],
    "stem_stride": 1,
}


@pytest.mark.parametrize(
    ("task", "habits", "origin"),
    [
        ("kidney_tumor", {"notice_mm": 0.0}, "ai_corrected"),
        ("brain_tumor", {"notice_mm": 1e6}, "ai_accepted"),
    ],
)
def test_a_reader_works_through_a_sites_study_cases(tmp_path, task, habits, origin):
    site, *_ = generate_sites(
        tmp_path / "sites",
        task=task,
        n_sites=2,
        n_external=0,
        counts=CaseCounts(warmup=1, train=2, validation=1, test=1),
        spacing_mm=SPACING_MM,
    )
    model_sha256 = publish_untrained(site, tmp_path / "bundle", plan=TINY_PLAN)
    reader = Reader(name="ann", **habits)
    ledger = site.ledger()
    for case in site.split("train"):
        ledger.assign(reader.name, case.case_id, "assisted")

    with label_server(site.folder, reader=reader.name) as url:
        summary = annotate_site(url, site, reader)
        assert httpx.get(f"{url}/info/").json()["datastore"]["total"] == summary.n_cases

    assert [case.case_id for case in summary.cases] == [c.case_id for c in site.split("train")]
    assert summary.origins == {origin: summary.n_cases}
    ledger.verify()
    for case in site.split("train"):
        record = ledger.current(case.case_id, "assisted")
        label = read_label(ledger.label_path(record.label_sha256))
        proposal = read_label(ledger.label_path(record.proposal_sha256))
        n_changed = np.count_nonzero(label.data != proposal.data)
        n_either = np.count_nonzero((label.data != 0) | (proposal.data != 0))
        assert (record.origin, record.reader, record.status) == (origin, "ann", "submitted")
        assert record.model_sha256 == model_sha256
        assert record.changed_fraction == pytest.approx(n_changed / n_either)
        assert record.opened_at < record.submitted_at
        assert 0 < record.active_seconds < summary.wall_seconds
    assert not list((site.folder / "images").glob("*.json")), "images/ is never written to"


def test_label_simulate_corrects_the_training_cases_that_another_reader_has_drawn(tmp_path):
    site, *_ = generate_sites(
        tmp_path / "sites",
        task="brain_tumor",
        n_sites=2,
        n_external=0,
        counts=CaseCounts(warmup=1, train=1, validation=1, test=1),
        spacing_mm=SPACING_MM,
    )
    before = site.ledger().records()
    without_model = CliRunner().invoke(app, ["simulate", str(site.folder)])
    publish_untrained(site, tmp_path / "bundle", plan=TINY_PLAN)

    done = CliRunner().invoke(app, ["simulate", str(site.folder)], catch_exceptions=False)

    assert "no published model" in str(without_model.exception)
    assert done.exit_code == 0
    new = site.ledger().records()[len(before) :]
    assert [record.case_id for record in new] == [case.case_id for case in site.split("train")]
    assert {(record.reader, record.arm) for record in new} == {("assisted-reader", "assisted")}


@pytest.fixture(scope="module")
def bean(tmp_path_factory) -> Site:
    return make_site(tmp_path_factory.mktemp("bean"), splits=("train", "train", "train"))


@pytest.fixture(scope="module")
def server(bean):
    with (
        label_server(bean.folder, reader="ann") as url,
        httpx.Client(base_url=url, timeout=180) as client,
    ):
        yield client


def as_upload(label: Volume, folder: Path) -> bytes:
    write_label(label, folder / "upload.nii.gz")
    return (folder / "upload.nii.gz").read_bytes()


def save(server: httpx.Client, case_id: str, content: bytes) -> httpx.Response:
    return server.put(
        "/datastore/label",
        params={"image": case_id},
        data={"params": json.dumps({"label_info": SEGMENTS, "model": "bean"})},
        files={"label": ("/tmp/label.nii.gz", content)},
    )


def test_a_model_is_listed_once_it_is_published_and_swapped_while_serving(server, bean, tmp_path):
    assert server.get("/info/").json()["models"] == {}
    assert server.post("/infer/bean", params={"image": "case0"}).status_code == 404

    for seed in (0, 1):
        sha256 = publish_untrained(bean, tmp_path / f"bundle{seed}", seed=seed)
        answer = server.post(
            "/infer/bean", params={"image": "case0"}, data={"params": '{"image": "case0"}'}
        )
        assert server.get("/info/").json()["models"]["bean"]["labels"] == {"skin": 1, "core": 2}
        assert answer.status_code == 200
        assert sha256 in answer.text


def test_no_proposal_from_a_model_that_saw_the_case(server, bean, tmp_path):
    publish_untrained(
        bean, tmp_path / "bundle", seed=3, trained_on=[bean.case("case0").image_sha256]
    )

    refused = server.post("/infer/bean", params={"image": "case0"})
    allowed = server.post("/infer/bean", params={"image": "case1"})

    assert refused.status_code == 422
    assert "case0 is among the training images" in refused.json()["detail"]
    assert allowed.status_code == 200


# MONAI Label's own client imports a deprecated module and leaves its sockets to be collected.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_in_the_manual_arm_slicer_gets_an_empty_mask_instead_of_an_error(server, bean, tmp_path):
    from monailabel.client.client import MONAILabelClient

    publish_untrained(bean, tmp_path / "bundle", seed=2)
    # Another case than the other tests': from here on the reader has assignments.
    bean.ledger().assign("ann", "case2", "manual")
    client = MONAILabelClient(str(server.base_url), tmpdir=str(tmp_path), client_id="user-xyz")

    sample = client.next_sample("oldest_first", {})
    file, params = client.infer("bean", "case2", {"result_extension": ".nrrd"})
    write_label(make_label(), tmp_path / "label.nii.gz")
    saved = client.save_label("case2", str(tmp_path / "label.nii.gz"), params={})

    assert sample["id"] == "case2"
    assert params["label_names"] == {}
    assert not read_label(Path(file)).data.any()
    assert (saved["origin"], saved["status"]) == ("manual", "submitted")
    assert client.next_sample("oldest_first", {}) == {}


def test_a_bad_label_is_refused_in_words_and_the_good_one_stays(server, bean, tmp_path):
    good = as_upload(make_label(), tmp_path)
    assert save(server, "case1", good).json()["label"] == "case1"
    records = bean.ledger().records()

    damaged = save(server, "case1", good[:60])
    unknown = save(server, "case1", as_upload(make_label(7), tmp_path))
    nobody = save(server, "../case1", good)

    assert (damaged.status_code, unknown.status_code, nobody.status_code) == (422, 422, 404)
    assert "Cannot read the submitted label" in damaged.json()["detail"]
    assert "segment named 'value 7'" in unknown.json()["detail"]
    assert bean.ledger().records() == records
    bean.ledger().verify()


def test_no_request_names_a_file(server, bean):
    for image in ("/etc/hostname", "../images/case0", str(bean.folder / "site.toml")):
        params = json.dumps({"image": image})
        assert server.post("/infer/bean", params={"image": image}).status_code == 404
        by_params = server.post("/infer/bean", params={"image": "case0"}, data={"params": params})
        assert by_params.status_code == 404
        assert server.get("/datastore/image", params={"image": image}).status_code == 404
        label = server.get("/datastore/label", params={"label": image, "tag": "final"})
        assert label.status_code == 404
    uploaded = server.post(
        "/infer/bean", params={"image": "case0"}, files={"file": ("case0.nii.gz", b"x")}
    )
    assert uploaded.status_code == 404


def test_what_slicer_does_not_need_is_not_served(server):
    for method, path in (
        ("PUT", "/datastore/image?image=../app/main"),
        ("PUT", "/model/bean"),
        ("POST", "/reload"),
        ("GET", "/proxy/dicom/studies"),
    ):
        assert server.request(method, path).status_code == 404
    page = server.get("/info/", headers={"origin": "https://example.org"})
    assert page.status_code == 403
    assert "access-control-allow-origin" not in page.headers


def test_a_server_that_cannot_start_says_why(tmp_path):
    (tmp_path / "images").mkdir()

    with (
        pytest.raises(ServerError, match=r"ended with code 3.*holds no site\.toml"),
        label_server(tmp_path),
    ):
        pass


def child_processes(pid: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(pid).children() if "spawn_main" in " ".join(p.cmdline())]


def test_the_server_answers_while_its_worker_computes_dies_and_ends_with_it(tmp_path):
    site = make_site(tmp_path)
    publish_untrained(site, tmp_path / "bundle")
    left = site.folder / "labels" / ".partial-of-a-killed-server"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))

    with running_server(site.folder, listen=Listen(), reader="ann", device="cpu") as server:
        with httpx.Client(base_url=server.url, timeout=180) as client:
            assert client.post("/infer/bean", params={"image": "case0"}).status_code == 200
            (worker,) = child_processes(server.process.pid)
            assert not left.exists()

            worker.suspend()
            with ThreadPoolExecutor() as readers:
                proposal = readers.submit(client.post, "/infer/bean", params={"image": "case0"})
                infos = [client.get("/info/") for _ in range(3)]
                sample = client.post("/activelearning/least_certain", json={})
                assert not proposal.done(), "nobody computes"
                worker.kill()
                answer = proposal.result(180)
            (successor,) = child_processes(server.process.pid)

        assert [info.status_code for info in infos] == [200] * 3
        assert sample.json()["id"] == "case0"
        assert answer.status_code == 200, "another worker answers in its place"
        assert successor.pid != worker.pid
        server.process.kill()
        server.process.wait()
        assert psutil.wait_procs([successor], timeout=30)[1] == [], "it outlives the server"


def test_scores_are_computed_in_the_background_once_somebody_wants_them(tmp_path):
    site = make_site(tmp_path, splits=("train", "train", "train", "test"))
    sha256 = publish_untrained(site, tmp_path / "bundle")
    scores = site.folder / "cache" / "uncertainty" / sha256[:12]

    with (
        label_server(site.folder, reader="ann", device="cpu") as url,
        httpx.Client(base_url=url, timeout=180) as client,
    ):
        first = client.post("/activelearning/least_certain", json={})
        deadline = time.monotonic() + 180
        while len(list(scores.glob("*.json"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert save(client, "case0", as_upload(make_label(), tmp_path)).status_code == 200
        after = client.post("/activelearning/least_certain", json={})

    found = {case.case_id: scores / f"{case.image_sha256}.json" for case in site.cases}
    known = {
        case_id: json.loads(path.read_text())["mean_entropy"]
        for case_id, path in found.items()
        if path.exists()
    }
    assert first.json()["id"] == "case0", "no score yet: in the order of import"
    assert set(known) == {"case0", "case1", "case2"}
    del known["case0"]
    assert after.json()["id"] == max(known, key=known.__getitem__)


PARENT = """
import os, signal, sys
from pathlib import Path
from segfed.cli.label_server import label_server
with label_server(Path(sys.argv[1])) as url:
    print(url, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_dies_with_its_parent(tmp_path):
    site = make_site(tmp_path)
    parent = subprocess.run(
        [sys.executable, "-c", PARENT, str(site.folder)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )

    url, deadline = parent.stdout.strip(), time.monotonic() + 30
    assert url.startswith("http://127.0.0.1:")
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/info/", timeout=2)
        except httpx.TransportError:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"{url} still answers after its parent was killed")
    # What the next server does first: it removes the folder once the process is gone altogether.
    app_folder = site.folder / "cache" / "label_server"
    (left,) = app_folder.glob(".server-*")
    while left.exists() and time.monotonic() < deadline:
        with temporary_folder(app_folder):
            time.sleep(0.1)
    assert not left.exists()
