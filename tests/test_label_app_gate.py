"""What may pass the door of the label server."""

from __future__ import annotations

import asyncio

import pytest

from label_app.gate import MAX_BODY_BYTES, Gate, refuse


def scope(method: str, path: str, **headers: str):
    named = {"host": "127.0.0.1:8000"} | headers
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in named.items()],
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/info/"),
        ("POST", "/activelearning/oldest_first"),
        ("GET", "/datastore/image"),
        ("GET", "/datastore/"),
        ("POST", "/infer/kidney_tumor"),
        ("PUT", "/datastore/label"),
        ("POST", "/train/kidney_tumor"),
        ("GET", "/train/"),
        ("DELETE", "/train/"),
        ("GET", "/channels/case-1"),
        ("GET", "/channels/case-1/t2f"),
    ],
)
def test_what_slicer_asks_for_passes(method, path):
    assert refuse(scope(method, path)) is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/datastore/image"),
        ("PUT", "/datastore/"),
        ("DELETE", "/datastore/label"),
        ("PUT", "/model/kidney_tumor"),
        ("POST", "/infer/wsi/kidney_tumor"),
        ("POST", "/train/"),
        ("GET", "/channels/case-1/../x"),
        ("POST", "/infer/..%2f"),
        ("POST", "/reload"),
        ("GET", "/proxy/dicom/studies"),
        ("GET", "/static/../app.py"),
        ("GET", "/info/\n"),
        ("OPTIONS", "/info/"),
    ],
)
def test_everything_else_is_not_there(method, path):
    status, _ = refuse(scope(method, path))

    assert status == 404


def test_web_pages_get_no_answer():
    assert refuse(scope("GET", "/info/", origin="https://example.org"))[0] == 403
    assert refuse(scope("GET", "/info/", host="example.org"))[0] == 403
    assert refuse(scope("GET", "/info/", host="127.0.0.1.example.org"))[0] == 403


def test_a_body_states_its_length_and_stays_within_the_limit():
    too_long = str(MAX_BODY_BYTES + 1)

    assert refuse(scope("PUT", "/datastore/label", content_length="10")) is None
    assert refuse(scope("PUT", "/datastore/label", content_length=too_long))[0] == 413
    assert refuse(scope("PUT", "/datastore/label", content_length="-1"))[0] == 413
    assert refuse(scope("PUT", "/datastore/label", transfer_encoding="chunked"))[0] == 411


def test_a_refused_request_never_reaches_the_app():
    async def app(*_):
        raise AssertionError("passed the gate")

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Gate(app)(scope("POST", "/reload"), None, send))

    assert sent[0]["status"] == 404
