"""What a request for a proposal may ask for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from label_app.wishes import allowed_wishes

SLICERS = {
    "model": "bean",
    "image": "case0",
    "result_extension": ".nrrd",
    "result_dtype": "uint8",
    "foreground": [[1, 2, 3], [4, 5, 6]],
    "background": [],
    "label": "skin",
    "skin": [[1, 2, 3]],
    "label_info": [{"name": "skin", "id": 1}],
    "roi": [1, 2.5, 3, 4, 5, 6],
}


def test_what_slicer_sends_stays():
    assert allowed_wishes(SLICERS, labels=("skin", "core")) == SLICERS


def test_the_rest_is_dropped_and_the_request_stays_as_it_was():
    request = SLICERS | {"client_id": "user-xyz", "device": "cuda", "result_write_to_file": True}
    before = dict(request)

    assert allowed_wishes(request, labels=("skin",)) == SLICERS
    assert request == before


@pytest.mark.parametrize("key", ["image", "model", "label", "result_extension", "roi"])
@pytest.mark.parametrize("path", ["/etc/passwd", "../case0", "a/b", "..", "C:\\x", "case0\n"])
def test_no_text_can_be_a_path(key, path):
    assert key not in allowed_wishes({key: path}, labels=())
    assert key not in allowed_wishes({key: [{"name": path}]}, labels=())


def test_a_file_that_was_uploaded_with_the_request_is_kept():
    folder = tempfile.gettempdir()

    assert allowed_wishes({"label": f"{folder}/tmpx.nii.gz"}, labels=())
    assert not allowed_wishes({"label": f"{folder}/.."}, labels=())
    assert not allowed_wishes({"label": str(Path(folder) / "site" / "x.nii.gz")}, labels=())


def test_what_is_nested_too_deeply_is_dropped():
    deep: list = []
    for _ in range(1000):
        deep = [deep]

    assert allowed_wishes({"roi": deep}, labels=()) == {}
