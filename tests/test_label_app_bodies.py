"""Bodies of requests and answers, bounded."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import HTTPException

from label_app import bodies
from label_app.bodies import bounded, drain, noting, without_body


def arriving(*chunks: bytes):
    """A body that arrives in pieces, and then the end of the connection."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    ]
    messages.append({"type": "http.disconnect"})

    async def receive():
        return messages.pop(0)

    return receive


def test_a_body_within_its_limit_arrives_whole():
    receive = bounded(arriving(b"ab", b"c"), most_bytes=3)

    async def read():
        return [(await receive()).get("body") for _ in range(3)]

    assert asyncio.run(read()) == [b"ab", b"c", None]


def test_a_body_that_grows_too_long_is_refused():
    receive = bounded(arriving(b"ab", b"cd"), most_bytes=3)

    async def read():
        await receive()
        await receive()

    with pytest.raises(HTTPException, match=r"413.*4 bytes or more; expected at most 3"):
        asyncio.run(read())


def test_a_sender_who_falls_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(bodies, "IDLE_SECONDS", 0.01)

    async def silent():
        await asyncio.sleep(60)

    with pytest.raises(HTTPException, match=r"408.*expected the rest"):
        asyncio.run(bounded(silent, most_bytes=3)())


def test_a_request_without_a_body_ends_at_once():
    receive = without_body(arriving(b"never read"))

    assert asyncio.run(receive())["body"] == b""


def test_draining_stops_where_a_sender_never_does(monkeypatch):
    monkeypatch.setattr(bodies, "MAX_DRAINED_BYTES", 10)
    n_read = 0

    async def endless():
        nonlocal n_read
        n_read += 1
        return {"type": "http.request", "body": b"1234", "more_body": True}

    asyncio.run(drain(endless))

    assert n_read == 3, "4, 8 and 12 bytes"


def test_an_answer_is_noted_before_its_end_is_sent():
    story = []

    async def send(message):
        story.append(message.get("body"))

    async def answer():
        noted = noting(send, story.append)
        await noted({"type": "http.response.start", "status": 200})
        await noted({"type": "http.response.body", "body": b'{"id":', "more_body": True})
        await noted({"type": "http.response.body", "body": b'"a"}'})

    asyncio.run(answer())

    assert story == [None, b'{"id":', {"id": "a"}, b'"a"}']
