"""The door of the label server: who passes, and what comes out."""

from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from label_app import gate
from label_app.gate import Gate, guarded
from label_app.login import Desk
from label_app.reader import Reader, current_reader
from label_app.routes import Route as Allowed
from segfed.sites import add_account, remove_account, set_password
from tests.label_app_samples import ask

PASSWORD = "correct horse battery"
IMAGE = "/datastore/image?image=case0"
NEXT = "/activelearning/oldest_first"


async def info(_):
    return JSONResponse({"reader": current_reader().name, "role": current_reader().role})


async def sample(_):
    return JSONResponse({"id": "case0"})


async def save(request):
    return JSONResponse({"n_bytes": len(await request.body())})


async def infer(request):
    model = request.path_params["model"]
    if model == "raises":
        raise OSError("/srv/site/images/case0.nii.gz")
    if model == "answers":
        raise HTTPException(500, "/srv/site/images/case0.nii.gz")
    raise HTTPException(503, "The worker starts again; try in a minute")


INNER = Starlette(
    routes=[
        Route("/info/", info),
        Route("/activelearning/{strategy}", sample, methods=["POST"]),
        Route("/datastore/image", info, methods=["GET", "HEAD"]),
        Route("/datastore/label", save, methods=["PUT"]),
        Route("/infer/{model}", infer, methods=["POST"]),
    ]
)


@pytest.fixture
def site_folder(tmp_path):
    add_account(tmp_path, name="ann", role="annotator", password=PASSWORD)
    return tmp_path


@pytest.fixture
def door(site_folder):
    return Gate(INNER, Desk(site_folder))


def logged_in(door: Gate, name: str = "ann") -> dict[str, dict[str, str]]:
    form = {"username": name, "password": PASSWORD, "grant_type": "password"}
    (answer,) = ask(door, ("POST", "/auth/token", {"data": form}))
    return {"headers": {"authorization": f"bearer {answer.json()['access_token']}"}}


def test_without_accounts_the_one_reader_is_asking_and_there_is_no_login():
    local = Gate(INNER, Reader("carol", "admin"))

    auth, answer = ask(local, ("GET", "/auth/"), ("GET", "/info/"))

    assert auth.status_code == 404, "which tells Slicer not to ask for a login"
    assert answer.json() == {"reader": "carol", "role": "admin"}


def test_with_accounts_only_the_token_says_who_asks(door):
    token = logged_in(door)

    nobody, ann = ask(door, ("GET", "/info/"), ("GET", "/info/", token))

    assert nobody.status_code == 401
    assert "log in when asked" in nobody.json()["detail"]
    assert ann.json() == {"reader": "ann", "role": "annotator"}


def test_only_a_reviewer_starts_or_stops_a_training(door, site_folder):
    add_account(site_folder, name="rita", role="reviewer", password=PASSWORD)
    requests = [("POST", "/train/kidney_tumor"), ("DELETE", "/train/")]

    annotator = ask(door, *((*request, logged_in(door)) for request in requests))
    reviewer = ask(door, *((*request, logged_in(door, "rita")) for request in requests))

    assert [answer.status_code for answer in annotator] == [403, 403]
    assert "expected reviewer" in annotator[0].json()["detail"]
    assert [answer.status_code for answer in reviewer] == [404, 404], "it reached the app"


def test_a_removed_account_and_a_changed_password_end_the_login_at_once(door, site_folder):
    token = logged_in(door)
    set_password(site_folder, name="ann", password="another long password")
    (changed,) = ask(door, ("GET", "/info/", token))
    remove_account(site_folder, "ann")
    (removed,) = ask(door, ("GET", "/info/", token))

    assert (changed.status_code, removed.status_code) == (401, 401)
    assert "removed or has another password" in removed.json()["detail"]


def test_an_image_is_had_without_a_login_only_after_it_was_offered_and_only_there(door):
    token = logged_in(door)

    before, _, after, other_image, other_route = ask(
        door,
        ("GET", IMAGE),
        ("POST", NEXT, token),
        ("GET", IMAGE),
        ("GET", "/datastore/image?image=case1"),
        ("GET", "/info/"),
    )
    (stranger,) = ask(door, ("GET", IMAGE), address="10.0.0.2")

    assert before.status_code == 401
    assert (after.status_code, after.json()["reader"]) == (200, "ann")
    assert {other_image.status_code, other_route.status_code, stranger.status_code} == {401}


def test_a_grant_ends_with_its_time_and_with_its_account(site_folder, monkeypatch):
    monkeypatch.setattr(gate, "GRANT_SECONDS", 0.0)
    short = Gate(INNER, Desk(site_folder))
    _, expired = ask(short, ("POST", NEXT, logged_in(short)), ("GET", IMAGE))
    monkeypatch.undo()
    door = Gate(INNER, Desk(site_folder))
    ask(door, ("POST", NEXT, logged_in(door)))
    remove_account(site_folder, "ann")
    (removed,) = ask(door, ("GET", IMAGE))

    assert (expired.status_code, removed.status_code) == (401, 401)


def test_a_refused_offer_grants_nothing(site_folder):
    async def none_left(_):
        return JSONResponse({"id": "case0"}, 422)

    door = Gate(
        Starlette(routes=[Route("/activelearning/{s}", none_left, methods=["POST"])]),
        Desk(site_folder),
    )

    _, image = ask(door, ("POST", NEXT, logged_in(door)), ("GET", IMAGE))

    assert image.status_code == 401


@pytest.mark.parametrize(("role", "status"), [("annotator", 200), ("reviewer", 403)])
def test_a_route_can_ask_for_a_higher_role(door, monkeypatch, role, status):
    token = logged_in(door)
    route = Allowed("GET", "/info/", role=role)
    monkeypatch.setattr(gate, "admit", lambda *_, **__: route)

    (answer,) = ask(door, ("GET", "/info/", token))

    assert answer.status_code == status


@pytest.mark.parametrize("model", ["raises", "answers"])
def test_an_inner_error_is_one_sentence_without_a_path(model, caplog):
    (answer,) = ask(Gate(INNER, Reader("carol", "admin")), ("POST", f"/infer/{model}?image=case0"))

    assert answer.status_code == 500
    assert "did not expect" in answer.json()["detail"]
    assert "/srv/site" not in answer.text
    assert f"/infer/{model}" in caplog.text


def test_an_error_that_the_app_explains_passes():
    (answer,) = ask(Gate(INNER, Reader("carol", "admin")), ("POST", "/infer/busy?image=case0"))

    assert (answer.status_code, answer.text) == (503, "The worker starts again; try in a minute")


def test_a_question_has_no_body_whatever_it_announced(door):
    token = logged_in(door)
    token["headers"]["content-length"] = "12345"  # left over from an upload

    (answer,) = ask(door, ("GET", "/info/", token))

    assert answer.status_code == 200


def test_a_body_that_outgrows_its_limit_is_refused_in_words():
    async def pieces():
        for _ in range(70):
            yield b"x" * 1024

    lying = {"content": pieces(), "headers": {"content-length": "10"}}
    local = Gate(Starlette(routes=[Route(NEXT, save, methods=["POST"])]), Reader("c", "admin"))

    (answer,) = ask(local, ("POST", NEXT, lying))

    assert answer.status_code == 413
    assert "at most 65536" in answer.text


def test_a_refused_upload_is_read_to_its_end_so_that_the_reason_arrives(door):
    n_read = 0

    async def pieces():
        nonlocal n_read
        for _ in range(5):
            n_read += 1
            yield b"x"

    upload = {"content": pieces(), "headers": {"content-length": "5"}}

    (answer,) = ask(door, ("PUT", "/datastore/label?image=case0", upload))

    assert answer.status_code == 401
    assert n_read == 5


def test_one_address_cannot_take_all_connections(monkeypatch):
    monkeypatch.setattr(gate, "MOST_AT_ONCE", 0)

    (answer,) = ask(Gate(INNER, Reader("carol", "admin")), ("GET", "/info/"))

    assert answer.status_code == 503
    assert "from this address" in answer.json()["detail"]


def test_what_is_not_http_gets_no_answer():
    async def never(*_):
        raise AssertionError("passed the gate")

    asyncio.run(Gate(never, Reader("carol", "admin"))({"type": "websocket"}, never, never))


def test_as_soon_as_there_are_accounts_nobody_passes_without_a_login(tmp_path):
    local = guarded(INNER, site_folder=tmp_path, conf={"reader": "carol"})
    (before,) = ask(local, ("GET", "/info/"))
    add_account(tmp_path, name="ann", role="annotator", password=PASSWORD)

    refused = ask(local, ("GET", "/info/"), ("GET", IMAGE), ("GET", "/auth/"))

    assert before.json()["reader"] == "carol"
    assert {answer.status_code for answer in refused} == {503}
    assert "start the server again" in refused[0].json()["detail"]


def test_a_server_without_a_named_reader_asks_everybody_to_log_in(site_folder, tmp_path_factory):
    alone = tmp_path_factory.mktemp("without_accounts")
    named = guarded(INNER, site_folder=alone, conf={"reader": "carol"})
    unnamed = guarded(INNER, site_folder=site_folder, conf={"public_names": "a.example b.example"})

    (carol,) = ask(named, ("GET", "/info/"))
    (nobody,) = ask(unnamed, ("GET", "/info/", {"headers": {"host": "b.example"}}))
    (elsewhere,) = ask(unnamed, ("GET", "/info/", {"headers": {"host": "c.example"}}))

    assert carol.json()["reader"] == "carol"
    assert (nobody.status_code, elsewhere.status_code) == (401, 403)
