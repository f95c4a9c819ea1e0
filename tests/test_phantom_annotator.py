"""A simulated reader against a server that answers as MONAI Label does, without a network."""

from __future__ import annotations

import json
import re

import httpx
import numpy as np
import pytest

from segfed.errors import GeometryError, ServerError
from segfed.files import sha256_bytes, write_text
from segfed.phantom import Reader, truth_path
from segfed.phantom.annotator import annotate_site, assign_assisted
from segfed.volumes import Grid, Volume, read_label, write_label
from tests.sites_samples import make_label, make_site

EXACT = Reader(name="ann", contour_sd_mm=0, notice_mm=0)


class LabelServer:
    """Answers one reader's requests for the bean task and keeps what was asked and sent."""

    def __init__(self, site, folder, *, proposal: Volume | None = None) -> None:
        self.requests: list[str] = []
        self.saved: dict[str, tuple[dict, np.ndarray]] = {}
        self.info = {
            "labels": ["skin", "core"],
            "strategies": {"oldest_first": {}},
            "models": {"bean": {}} if proposal else {},
        }
        self.label_names = {"skin": 1}
        self.image = (site.folder / "images" / "case0.nii.gz").read_bytes()
        self.checksum = f"SHA256:{sha256_bytes(self.image)}"
        self._folder = folder
        self._proposal = proposal

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if request.url.path == "/info/":
            return httpx.Response(200, json=self.info)
        if request.url.path == "/activelearning/oldest_first":
            return httpx.Response(200, json=self.next_sample())
        if request.url.path == "/datastore/image":
            return httpx.Response(200, content=self.image)
        if request.url.path == "/infer/bean":
            return self.infer()
        return self.save(request)

    def next_sample(self) -> dict:
        sample = {"id": "case0", "name": "case0.nii.gz", "path": "", "checksum": self.checksum}
        return {} if "case0" in self.saved else sample

    def infer(self) -> httpx.Response:
        write_label(self._proposal, self._folder / "proposal.nrrd")
        fields = {
            "params": (None, json.dumps({"label_names": self.label_names}), "application/json"),
            "image": ("tmp.nrrd", (self._folder / "proposal.nrrd").read_bytes()),
        }
        encoded = httpx.Request("POST", "http://server", files=fields)
        kind = {"content-type": encoded.headers["content-type"]}
        return httpx.Response(200, content=encoded.read(), headers=kind)

    def save(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        params = json.loads(re.search(rb'name="params"\r\n\r\n(.*?)\r\n--', content, re.S)[1])
        path = self._folder / "saved.nii.gz"
        label = content.split(b"\r\n\r\n", maxsplit=2)[2].rpartition(b"\r\n--")[0]
        path.write_bytes(label)
        self.saved[request.url.params["image"]] = (params, read_label(path).data)
        return httpx.Response(200, json={"origin": "ai_corrected", "status": "submitted"})


@pytest.fixture
def site(tmp_path):
    site = make_site(tmp_path, splits=("train",))
    write_label(make_label(), truth_path(site.folder, "case0"))
    return site


def annotate(site, server):
    return annotate_site("http://server", site, EXACT, transport=httpx.MockTransport(server))


def test_a_case_is_read_in_the_order_in_which_slicer_asks(site, tmp_path):
    server = LabelServer(site, tmp_path, proposal=make_label(1))

    summary = annotate(site, server)

    assert server.requests == [
        "GET /info/",
        "POST /activelearning/oldest_first",
        "GET /datastore/image",
        "POST /infer/bean",
        "PUT /datastore/label",
        "GET /info/",
        "POST /activelearning/oldest_first",
    ]
    assert (summary.site, summary.reader, summary.n_cases) == ("north", "ann", 1)
    assert summary.origins == {"ai_corrected": 1}
    assert summary.edit_seconds == summary.cases[0].edit_seconds > 0


def test_a_reader_without_error_corrects_a_proposal_to_the_truth(site, tmp_path):
    server = LabelServer(site, tmp_path, proposal=make_label(1))

    annotate(site, server)

    params, label = server.saved["case0"]
    assert params["label_info"] == [{"name": "skin", "idx": 1}, {"name": "core", "idx": 2}]
    assert params["model"] == "bean"
    assert np.array_equal(label, make_label().data)


def test_without_a_model_the_reader_draws_by_hand(site, tmp_path):
    server = LabelServer(site, tmp_path)

    annotate(site, server)

    assert "POST /infer/bean" not in server.requests
    assert np.array_equal(server.saved["case0"][1], make_label().data)


def test_a_proposal_without_a_voxel_is_nothing_to_correct(site, tmp_path):
    empty = Volume(np.zeros_like(make_label().data), make_label().grid)
    server = LabelServer(site, tmp_path, proposal=empty)
    server.label_names = {}

    summary = annotate(site, server)

    assert summary.cases[0].n_regions == 1
    assert np.array_equal(server.saved["case0"][1], make_label().data)


def test_an_image_that_did_not_arrive_whole_is_refused(site, tmp_path):
    server = LabelServer(site, tmp_path)
    server.image = server.image[:-1]

    with pytest.raises(ServerError, match="case0 arrived with the checksum"):
        annotate(site, server)


def test_a_proposal_on_another_grid_is_refused(site, tmp_path):
    label = make_label()
    moved = Volume(label.data, Grid(label.grid.shape, np.diag([1.0, 1.5, 2.5, 1.0])))

    with pytest.raises(GeometryError, match="proposal for case case0"):
        annotate(site, LabelServer(site, tmp_path, proposal=moved))


def test_a_proposal_whose_segments_slicer_would_mix_up_is_refused(site, tmp_path):
    server = LabelServer(site, tmp_path, proposal=make_label(1))
    server.label_names = {"skin": 1, "core": 2}

    with pytest.raises(ServerError, match=r"holds the values \[1\]"):
        annotate(site, server)


def test_a_server_of_another_task_is_refused(site, tmp_path):
    server = LabelServer(site, tmp_path)
    server.info["labels"] = ["kidney"]

    with pytest.raises(ServerError, match=r"offers the labels \['kidney'\].*'skin', 'core'"):
        annotate(site, server)


def test_what_a_server_refuses_is_quoted(site):
    transport = httpx.MockTransport(lambda _: httpx.Response(422, json={"detail": "no, because"}))

    with pytest.raises(ServerError, match=r"HTTP 422.*no, because"):
        annotate_site("http://server", site, EXACT, transport=transport)


def test_a_server_that_forgets_a_saved_label_is_not_served_for_ever(site, tmp_path):
    server = LabelServer(site, tmp_path)
    server.next_sample = lambda: {
        "id": "case0",
        "name": "case0.nii.gz",
        "checksum": server.checksum,
    }

    with pytest.raises(ServerError, match="offers case case0 again"):
        annotate(site, server)


def test_the_assisted_reader_is_assigned_the_training_cases_once(tmp_path):
    site = make_site(tmp_path, splits=("warmup", "train", "train", "test"))
    write_text(site.folder / "phantom" / "reader.toml", 'name = "ann"\nnotice_mm = 3.0\n')
    ledger = site.ledger()
    earlier = ledger.assign("assisted-reader", "case1", "manual")

    reader = assign_assisted(site)
    assign_assisted(site)

    assert (reader.name, reader.notice_mm) == ("assisted-reader", 3.0)
    assert ledger.assignment(reader.name, "case1") == earlier
    new = ledger.assignment(reader.name, "case2")
    assert (new.assignment_id, new.arm) == (earlier.assignment_id + 1, "assisted")
    assert ledger.assignment(reader.name, "case0") is None
    assert ledger.assignment(reader.name, "case3") is None
