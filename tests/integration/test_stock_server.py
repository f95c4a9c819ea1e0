"""What MONAI Label does by itself: the reasons for the gate.

The same requests are refused by our server in `test_label_security`. Where one of these tests
fails, upstream has changed, and the gate may drop what it no longer needs.
"""

from __future__ import annotations

import pytest
from monailabel.config import settings
from monailabel.interfaces.utils.app import clear_cache

from segfed.volumes import write_image, write_label
from tests.label_app_samples import ask
from tests.sites_samples import make_image, make_label

APP = """
from pathlib import Path
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

class Echo(InferTask):
    def __init__(self, weights):
        super().__init__(InferType.SEGMENTATION, ["skin"], 3, "")
        self._weights = weights

    def is_valid(self):
        return True

    def get_path(self, validate=True):
        return self._weights

    def __call__(self, request):
        return None, {"content": Path(request["image"]).read_text()}

class Stock(MONAILabelApp):
    def init_infers(self):
        return {"bean": Echo(str(Path(self.app_dir) / "weights.pt"))}
"""
CODE = b"print('not the hospital\\'s code')"


# The app imports modules that warn, and keeps its lock files open until they are collected.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def app_folder(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text(APP)
    (tmp_path / "app" / "weights.pt").write_bytes(b"good weights")
    return tmp_path / "app"


@pytest.fixture
def stock(app_folder, tmp_path, monkeypatch):
    studies = tmp_path / "studies"
    studies.mkdir()
    write_image(make_image(), studies / "case0.nii.gz")
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", str(app_folder))
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", str(studies))
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_CONF", {})
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    clear_cache()
    from monailabel.app import app

    yield app
    clear_cache()


def test_an_upload_overwrites_the_apps_own_code(stock, app_folder):
    upload = {"files": {"file": ("x.py", CODE)}}

    (answer,) = ask(stock, ("PUT", "/datastore/image?image=../app/main", upload))

    assert answer.status_code == 200
    assert (app_folder / "main.py").read_bytes() == CODE


def test_a_label_is_written_where_its_tag_says(stock, tmp_path):
    upload = {"files": {"label": ("x.py", CODE)}}

    (answer,) = ask(stock, ("PUT", "/datastore/label?image=case0&tag=../../x", upload))

    assert answer.status_code == 200
    assert (tmp_path / "x" / "case0.py").read_bytes() == CODE


def test_a_proposal_can_be_asked_for_any_file_of_the_machine(stock, tmp_path):
    (tmp_path / "secret").write_text("of another patient")

    (answer,) = ask(stock, ("POST", f"/infer/bean?image={tmp_path / 'secret'}"))

    assert "of another patient" in answer.text


def test_anybody_replaces_and_removes_weights(stock, app_folder):
    upload = {"files": {"file": ("x.pt", CODE)}}

    (replaced,) = ask(stock, ("PUT", "/model/bean", upload))
    assert replaced.status_code == 200
    assert (app_folder / "weights.pt").read_bytes() == CODE
    (removed,) = ask(stock, ("DELETE", "/model/bean"))
    assert removed.status_code == 200
    assert not (app_folder / "weights.pt").exists()


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x1f\x8b truncated"])
def test_any_bytes_replace_a_good_label(stock, tmp_path, content):
    write_label(make_label(), tmp_path / "good.nii.gz")
    good = (tmp_path / "good.nii.gz").read_bytes()
    path = "/datastore/label?image=case0"

    answers = ask(
        stock,
        ("PUT", path, {"files": {"label": ("a.nii.gz", good)}}),
        ("PUT", path, {"files": {"label": ("a.nii.gz", content)}}),
    )

    assert [answer.status_code for answer in answers] == [200, 200]
    stored = tmp_path / "studies" / "labels" / "final" / "case0.nii.gz"
    assert stored.read_bytes() == content


def test_any_web_page_and_any_stranger_is_answered(stock):
    page = {"headers": {"origin": "https://example.org", "host": "rebound.example.org"}}

    info, reload, docs = ask(stock, ("GET", "/info/", page), ("POST", "/reload"), ("GET", "/docs"))

    assert [answer.status_code for answer in (info, reload, docs)] == [200, 200, 200]
    assert info.headers["access-control-allow-origin"] in ("*", "https://example.org")
    assert info.headers["access-control-allow-credentials"] == "true"
