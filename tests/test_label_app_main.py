"""The app as MONAI Label loads and calls it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance, clear_cache

import label_app.main
from label_app.reader import Reader, asking
from segfed.volumes import write_label
from tests.model_samples import publish_untrained
from tests.sites_samples import make_label, make_site


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path)


@pytest.fixture
def app(site):
    with asking(Reader("ann", "annotator")):
        yield app_instance(
            app_dir=str(Path(label_app.main.__file__).parent),
            studies=str(site.folder / "images"),
            conf={"device": "cpu"},
        )
    clear_cache()


def test_info_is_what_slicer_reads(app):
    info = app.info()

    assert info["name"] == "segfed: north"
    assert info["labels"] == ["skin", "core"]
    assert list(info["strategies"]) == ["oldest_first", "random", "least_certain"]
    assert all(strategy["description"] for strategy in info["strategies"].values())
    assert info["models"] == {}
    assert info["datastore"] == {"total": 2, "completed": 0, "label_tags": {"final": 0}}
    assert "config" not in info, "Slicer takes a server with a top-level config for outdated"


def test_broken_models_are_left_out_and_keep_nobody_from_drawing(app, site, tmp_path, caplog):
    publish_untrained(site, tmp_path)
    publish_untrained(site, tmp_path, click_label="core")
    assert list(app.info()["models"]) == ["bean", "bean_clicks"]
    (proposing,) = (site.folder / "models" / "bean").glob("*/")
    shutil.rmtree(proposing)
    (metadata,) = (site.folder / "models" / "bean_clicks").rglob("metadata.json")
    metadata.write_text("{")

    assert app.info()["models"] == {}
    assert f"{proposing} is not there" in caplog.text
    assert f"{metadata} is missing or not JSON" in caplog.text
    for name, broken in (("bean", proposing), ("bean_clicks", metadata)):
        with pytest.raises(HTTPException, match=r"404.*cannot be used") as refused:
            app.infer({"model": name, "image": "case0"})
        assert str(broken.relative_to(site.folder)) in refused.value.detail
        assert str(site.folder) not in refused.value.detail
    assert app.next_sample({"strategy": "oldest_first"})["id"] == "case0"


def test_cases_come_in_order_until_none_is_left(app, tmp_path):
    for case_id in ("case0", "case1"):
        assert app.next_sample({"strategy": "oldest_first"})["id"] == case_id
        write_label(make_label(), tmp_path / "label.nii.gz")
        app.datastore().save_label(case_id, str(tmp_path / "label.nii.gz"), "final", {})

    assert app.next_sample({"strategy": "oldest_first"}) == {}


def test_a_damaged_case_blocks_nobody(app, site, caplog):
    images = site.folder / "images"
    (images / "case0.nii.gz").write_bytes(b"damaged")

    with caplog.at_level("WARNING"):
        assert app.next_sample({"strategy": "oldest_first"})["id"] == "case1"
    assert "Skipped for ann: Case case0: the image has the hash" in caplog.text

    (images / "case1.nii.gz").unlink()
    for _ in range(2):
        with pytest.raises(HTTPException, match=r"422.*Restore"):
            app.next_sample({"strategy": "oldest_first"})


def test_two_readers_who_ask_at_once_get_two_cases(app):
    def ask(name):
        with asking(Reader(name, "annotator")):
            return app.next_sample({"strategy": "oldest_first"})["id"]

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(ask, ["ann", "bob"])) == ["case0", "case1"]


def test_slicer_is_told_how_a_label_was_recorded(app, site, tmp_path):
    write_label(make_label(), tmp_path / "label.nii.gz")
    app.datastore().save_label("case0", str(tmp_path / "label.nii.gz"), "final", {})

    shown = app.on_save_label("case0", "case0")

    assert (shown["origin"], shown["status"], shown["record"]) == ("manual", "submitted", 1)
    assert shown["label_sha256"] == site.ledger().records()[0].label_sha256
    assert app.on_save_label("case1", "case1") == {}


def test_of_two_labels_saved_at_once_each_answer_names_its_own(app, tmp_path):
    requests = [copy_context(), copy_context()]
    for size, request in zip((3, 4), requests, strict=True):
        write_label(make_label(size=size), tmp_path / "label.nii.gz")
        request.run(
            app.datastore().save_label, "case0", str(tmp_path / "label.nii.gz"), "final", {}
        )

    answers = [request.run(app.on_save_label, "case0", "case0") for request in requests]

    assert [answer["record"] for answer in answers] == [1, 2]


def test_unknown_strategies_and_models_are_refused_in_words(app):
    with pytest.raises(HTTPException, match=r"404.*'first'.*oldest_first"):
        app.next_sample({"strategy": "first"})
    with pytest.raises(HTTPException, match=r"404.*no published model 'bean'"):
        app.infer({"model": "bean", "image": "case0"})


def test_labels_bear_the_name_of_whoever_asks_and_of_nobody_else(app):
    with asking(Reader("bob", "reviewer")):
        assert app.datastore().reader == "bob"
    assert app.datastore().reader == "ann"


def test_nobody_reads_outside_of_a_request_that_passed_the_gate(site):
    app = label_app.main.SegfedLabelApp("", str(site.folder / "images"), {})

    with pytest.raises(LookupError):
        _ = app.datastore().reader


def test_the_json_of_a_request_names_no_file(app):
    with pytest.raises(HTTPException, match="404"):
        app.infer({"model": "../bean", "image": "case0"})
