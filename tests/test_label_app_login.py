"""The login of 3D Slicer."""

from __future__ import annotations

import asyncio
import time

import jwt
import pytest
from fastapi import HTTPException

from label_app import login
from label_app.attempts import MOST_PER_ACCOUNT, MOST_PER_ADDRESS, WINDOW_SECONDS, Attempts
from label_app.login import TOKEN_SECONDS, Desk, login_app
from segfed.sites import add_account, signing_key
from tests.label_app_samples import ask

PASSWORD = "correct horse battery"


@pytest.fixture
def folder(tmp_path):
    add_account(tmp_path, name="ann", role="reviewer", password=PASSWORD)
    return tmp_path


@pytest.fixture
def desk(folder):
    return Desk(folder)


@pytest.fixture
def app(desk):
    return login_app(desk)


def log_in(app, password=PASSWORD, username="ann"):
    form = {"username": username, "password": password, "grant_type": "password"}
    return ask(app, ("POST", "/auth/token", {"data": form}))[0]


def valid(app, authorization: str):
    headers = {"Authorization": authorization}
    return ask(app, ("GET", "/auth/token/valid", {"headers": headers}))[0]


def held(desk, token: str, kind: str = "bearer"):
    return desk.holder(f"{kind} {token}")


def test_slicers_three_requests_are_answered_as_it_expects(app):
    (enabled,) = ask(app, ("GET", "/auth/"))
    token = log_in(app).json()
    # As MONAI Label's client joins them.
    answer = valid(app, f"{token['token_type']} {token['access_token']}")

    assert enabled.json() == {"enabled": True}
    assert set(token) == {"access_token", "token_type"}
    assert answer.json() == {"username": "ann", "roles": ["reviewer"]}
    assert valid(app, "bearer nonsense").status_code == 401


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(app):
    wrong, unknown = log_in(app, "wrong"), log_in(app, username="bob")

    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert "Found no account with this name and password" in wrong.json()["detail"]


def test_an_unknown_name_takes_as_long_as_a_wrong_password(desk, monkeypatch):
    checked = []
    monkeypatch.setattr(
        login, "is_password", lambda account, password: checked.append((account, password))
    )

    with pytest.raises(HTTPException, match="401"):
        asyncio.run(desk.log_in(name="bob", password="x", address=""))

    assert checked == [(None, "x")], "compared with nobody's hash"


def test_what_was_typed_as_an_unknown_name_is_not_logged(app, caplog):
    log_in(app, username=PASSWORD)

    assert "Login as ?" in caplog.text
    assert PASSWORD not in caplog.text


def test_too_many_failures_shut_an_account_even_for_the_right_password(app):
    for _ in range(MOST_PER_ACCOUNT):
        assert log_in(app, "wrong").status_code == 401

    shut = log_in(app)

    assert shut.status_code == 429
    assert "too many failed logins" in shut.json()["detail"]
    assert shut.headers["retry-after"] == "300"


def test_a_token_expires(folder, app):
    yesterday = Desk(folder, clock=lambda: time.time() - TOKEN_SECONDS - 1)
    token = asyncio.run(yesterday.log_in(name="ann", password=PASSWORD, address=""))

    answer = valid(app, f"bearer {token}")

    assert answer.status_code == 401
    assert "a login that expired, 12 hours after" in answer.json()["detail"]


def test_forged_tokens_are_refused(folder, desk):
    now = int(time.time())
    claims = {"sub": "ann", "stamp": "", "exp": now + 60}
    forged = [
        jwt.encode(claims, b"another key of thirty-two bytes!", algorithm="HS256"),
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode({"sub": "ann"}, signing_key(folder), algorithm="HS256"),
        "nonsense",
        "",
    ]

    for token in forged:
        with pytest.raises(HTTPException, match=r"401.*did not give out"):
            held(desk, token)
    with pytest.raises(HTTPException, match=r"401.*without a login"):
        held(desk, "x", kind="basic")


def test_attempts_count_by_account_and_by_address_until_the_window_has_passed():
    now = 0.0
    attempts = Attempts(clock=lambda: now)
    for index in range(MOST_PER_ADDRESS):
        attempts.begin(name=f"name{index}", address="10.0.0.1")

    with pytest.raises(HTTPException, match="429"):
        attempts.begin(name="ann", address="10.0.0.1")
    attempts.begin(name="ann", address="10.0.0.2")
    now = WINDOW_SECONDS + 1
    attempts.begin(name="ann", address="10.0.0.1")


def test_a_department_that_logs_in_from_one_address_is_not_shut_out():
    attempts = Attempts()

    for index in range(3 * MOST_PER_ADDRESS):
        attempts.begin(name=f"name{index}", address="10.0.0.1")
        attempts.succeeded(name=f"name{index}", address="10.0.0.1")
