"""What may pass the door of the label server, as far as the head of a request tells."""

from __future__ import annotations

import pytest
from fastapi import HTTPException

from label_app.routes import MAX_HEADER_BYTES, MAX_UPLOAD_BYTES, admit


def scope(method: str, path: str, **headers: str):
    named = {"host": "127.0.0.1:8000"} | headers
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in named.items()],
    }


def status(method: str, path: str, *, public_names=(), **headers: str) -> int:
    try:
        admit(scope(method, path, **headers), public_names=public_names)
    except HTTPException as refusal:
        return refusal.status_code
    return 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/auth/"),
        ("POST", "/auth/token"),
        ("GET", "/auth/token/valid"),
        ("GET", "/info/"),
        ("POST", "/activelearning/oldest_first"),
        ("GET", "/datastore/image?image=case-1_a"),
        ("HEAD", "/datastore/image?image=case0"),
        ("GET", "/datastore/?output=all"),
        ("GET", "/datastore/label?label=case0&tag=original"),
        ("POST", "/infer/kidney_tumor?image=case0"),
        ("PUT", "/datastore/label?image=case0"),
        ("POST", "/train/kidney_tumor"),
        ("GET", "/train/?check_if_running=true"),
        ("DELETE", "/train/"),
        ("GET", "/channels/case-1"),
        ("GET", "/channels/case-1/t2f"),
    ],
)
def test_what_slicer_asks_for_passes(method, path):
    assert status(method, path) == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        # Each of these is answered by a stock server; the first ones overwrite its code, delete
        # its data, replace its weights, restart it, and reach into the archive behind it.
        ("PUT", "/datastore/image?image=../app/main"),
        ("PUT", "/datastore/?image=../app/main"),
        ("DELETE", "/datastore/image?id=case0"),
        ("POST", "/train/"),
        ("GET", "/channels/case-1/../x"),
        ("DELETE", "/datastore/label?id=case0&tag=final"),
        ("PUT", "/model/kidney_tumor"),
        ("DELETE", "/model/kidney_tumor"),
        ("GET", "/model/kidney_tumor"),
        ("POST", "/reload"),
        ("GET", "/proxy/dicom/studies"),
        ("PUT", "/session/"),
        ("GET", "/logs/"),
        ("POST", "/scoring/all"),
        ("POST", "/batch/infer/kidney_tumor"),
        ("GET", "/datastore/dataset"),
        ("PUT", "/datastore/label/info?label=case0&tag=final"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/static/index.html"),
        ("GET", "/static/../app.py"),
        ("GET", "/"),
        ("POST", "/infer/wsi/kidney_tumor"),
        ("POST", "/infer/../reload"),
        ("GET", "/info/\n"),
        ("OPTIONS", "/info/"),
    ],
)
def test_everything_else_is_not_there(method, path):
    assert status(method, path) == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/infer/kidney_tumor?image=/etc/hostname"),
        ("POST", "/infer/kidney_tumor?image=%2Fetc%2Fhostname"),
        ("GET", "/datastore/image?image=../case0"),
        ("GET", "/datastore/image?image=.hidden"),
        ("PUT", "/datastore/label?image=case0&tag=../../x"),
        ("GET", "/datastore/label?label=case0&tag=/etc"),
        ("GET", "/datastore/image?image=case0%00"),
        ("GET", "/datastore/image?image=case0%0A"),
    ],
)
def test_no_parameter_is_a_path(method, path):
    assert status(method, path) == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/infer/kidney_tumor?image=case0&session_id=1"),
        ("POST", "/infer/kidney_tumor?image=case0&output=dicom_seg"),
        ("GET", "/info/?x=1"),
        ("GET", "/datastore/image?image=case0&image=case1"),
        ("GET", "/info/?" + "&".join(f"p{i}=1" for i in range(9))),
    ],
)
def test_parameters_that_slicer_does_not_send_are_refused(method, path):
    assert status(method, path) == 400


def test_web_pages_get_no_answer():
    assert status("GET", "/info/", origin="https://example.org") == 403
    assert status("GET", "/info/", sec_fetch_site="cross-site") == 403
    assert status("GET", "/info/", sec_fetch_site="none") == 200, "typed into the address bar"


@pytest.mark.parametrize(
    "host", ["example.org", "127.0.0.1.example.org", "0.0.0.0:8000", "127.0.0.1@example.org", ""]
)
def test_only_known_host_names_are_answered(host):
    assert status("GET", "/info/", host=host) == 403


def test_a_refusal_says_what_an_annotator_can_do():
    with pytest.raises(HTTPException) as uploaded:
        admit(scope("PUT", "/datastore/?image=mine"), public_names=())
    with pytest.raises(HTTPException) as misnamed:
        admit(scope("GET", "/info/", host="10.0.0.7:8000"), public_names=("labels.example",))

    assert "Open a case with Next Sample" in uploaded.value.detail
    assert "'10.0.0.7:8000'" in misnamed.value.detail
    assert "just as it was given to you" in misnamed.value.detail


def test_a_public_name_is_answered_beside_loopback():
    names = ("labels.hospital.example",)

    assert status("GET", "/info/", host="Labels.Hospital.example:8443", public_names=names) == 200
    assert status("GET", "/info/", host="localhost:8443", public_names=names) == 200
    assert status("GET", "/info/", host="other.hospital.example", public_names=names) == 403
    assert status("GET", "/info/", host="labels.hospital.example") == 403


def test_a_body_states_its_length_and_stays_within_the_limit():
    label = "/datastore/label?image=case0"

    assert status("PUT", label, content_length=str(MAX_UPLOAD_BYTES)) == 200
    assert status("PUT", label, content_length=str(MAX_UPLOAD_BYTES + 1)) == 413
    assert status("PUT", label, content_length="-1") == 400
    assert status("PUT", label, content_length="²") == 400
    assert status("PUT", label, transfer_encoding="chunked") == 411
    assert status("POST", "/auth/token", content_length="5000") == 413


def test_headers_stay_within_the_limit():
    assert status("GET", "/info/", cookie="x" * MAX_HEADER_BYTES) == 431


def test_a_length_left_over_from_an_upload_does_not_hinder_the_next_question():
    # MONAI Label's own client sends the headers of its last upload again.
    assert status("GET", "/info/", content_length="12345") == 200
