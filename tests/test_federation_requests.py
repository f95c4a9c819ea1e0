"""What each site is sent."""

from __future__ import annotations

import pytest

from federation.attendance import Attendance
from federation.messages import read_request, weights_sha256, write_arrays
from federation.notes import RoundNotes
from federation.requests import RoundRequests
from segfed.privacy import KeyRequest
from segfed.protocol import CORRECTION_PREFIX
from segfed.rules import FederationRules
from tests.federation_samples import AddingAgent, FakeTime, ScriptedGrid, arrays

SITES = ("east", "north", "south")
MODEL = arrays(2.0)
CORRECTION = {CORRECTION_PREFIX + "b.scale": MODEL["b.scale"]}


@pytest.fixture
def requests():
    """Of round 2, with `south` away."""
    grid = ScriptedGrid({site: AddingAgent(1) for site in SITES}, FakeTime())
    grid.away = {"south"}
    attendance = Attendance(
        grid, site_names=grid.site_names, rules=FederationRules(), clock=grid.time.clock()
    )
    return RoundRequests(attendance, RoundNotes(SITES, server_head="a" * 64), "f" * 64, 2)


def read(messages, verb="train"):
    """The requests as the relays read them."""
    return {site: read_request(message, verb) for site, message in messages.items()}


def test_a_site_that_has_the_model_gets_its_hash_and_what_is_its_own(requests):
    found = read(requests.train(MODEL, SITES, held_by={"north"}, corrections={"north": CORRECTION}))

    assert list(found) == ["east", "north"]
    assert found["east"].held_sha256 == ""
    assert found["north"].held_sha256 == weights_sha256(MODEL)
    assert CORRECTION_PREFIX.encode() in found["north"].weights
    assert b"a.weight" not in found["north"].weights
    assert {request.server_head for request in found.values()} == {"a" * 64}


def test_a_correction_goes_with_a_whole_model_too(requests):
    found = read(requests.train(MODEL, SITES, held_by=(), corrections={"north": CORRECTION}))

    assert CORRECTION_PREFIX.encode() in found["north"].weights
    assert b"a.weight" in found["north"].weights
    assert CORRECTION_PREFIX.encode() not in found["east"].weights


def test_who_is_away_is_named_and_what_goes_down_is_counted(requests):
    requests.train(MODEL, SITES, held_by={"north"}, corrections={})
    requests.stage("keys", {"south": KeyRequest(session="1" * 32)})

    notes = requests.notes
    assert notes.dropped == {"south": "train: not connected; keys: not connected"}
    size = write_arrays(MODEL).count_bytes()
    assert notes.sites["north"]["bytes_down"] < size < notes.sites["east"]["bytes_down"]
    assert notes.sites["south"]["bytes_down"] == 0


def test_the_new_model_goes_whole_to_those_who_are_to_score_it(requests):
    found = read(requests.validate(MODEL, {"east"}), "validate")

    assert list(found) == ["east"]
    assert (found["east"].round, found["east"].held_sha256) == (2, "")
