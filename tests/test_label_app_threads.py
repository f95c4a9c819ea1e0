"""Requests in threads, as MONAI Label needs them."""

# ruff: noqa: ARG001 -- the signatures are ASGI's

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import httpx
import pytest
from fastapi import FastAPI, File, UploadFile
from fastapi.responses import StreamingResponse

from label_app.threads import Threads

BOUND_SECONDS = 20
reader = ContextVar("reader", default="nobody")


@pytest.fixture
def app():
    app = FastAPI()
    app.state.released = threading.Event()

    @app.get("/blocked")
    async def blocked():
        return app.state.released.wait(BOUND_SECONDS)

    @app.get("/release")
    async def release():
        app.state.released.set()

    @app.get("/reader")
    async def who():
        return reader.get()

    @app.put("/upload")
    async def upload(file: UploadFile = File()):  # noqa: B008 -- FastAPI's way
        return len(await file.read())

    @app.get("/stream")
    async def stream():
        async def blocks():
            for block in (b"a" * 100_000, b"b" * 100_000):
                yield block

        return StreamingResponse(blocks())

    @app.get("/broken")
    async def broken():
        raise ZeroDivisionError("broken on purpose")

    return app


def client(app, **options):
    transport = httpx.ASGITransport(Threads(app, **options))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def test_a_blocked_request_holds_up_no_other(app):
    async def ask():
        async with client(app) as http:
            blocked = asyncio.create_task(http.get("/blocked"))
            # On one loop the first would wait for an event that only the second one sets.
            await http.get("/release")
            return (await blocked).json()

    assert asyncio.run(ask()) is True


def test_no_more_requests_are_answered_at_once_than_allowed(app):
    async def ask():
        async with client(app, most=1) as http:
            blocked = asyncio.create_task(http.get("/blocked"))
            await asyncio.sleep(0.05)
            release = asyncio.create_task(http.get("/release"))
            done, _ = await asyncio.wait({release}, timeout=0.2)
            app.state.released.set()
            await asyncio.gather(blocked, release)
            return done

    assert asyncio.run(ask()) == set()


def test_the_thread_knows_the_requests_context(app):
    async def ask(name):
        reader.set(name)
        async with client(app) as http:
            return (await http.get("/reader")).json()

    async def ask_all():
        return await asyncio.gather(*(asyncio.create_task(ask(name)) for name in ("ann", "bob")))

    assert asyncio.run(ask_all()) == ["ann", "bob"]


def test_bodies_go_both_ways_in_blocks(app):
    async def ask():
        async with client(app) as http:
            # More than the 1 MiB that FastAPI keeps in memory, so that it writes in a thread.
            put = await http.put("/upload", files={"file": b"x" * 3_000_000})
            return put.json(), (await http.get("/stream")).content

    assert asyncio.run(ask()) == (3_000_000, b"a" * 100_000 + b"b" * 100_000)


def test_an_error_reaches_the_server(app):
    async def ask():
        async with client(app) as http:
            await http.get("/broken")

    with pytest.raises(ZeroDivisionError, match="broken on purpose"):
        asyncio.run(ask())


def test_an_answer_to_a_client_that_left_is_still_finished():
    stored = threading.Event()

    async def slow(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        stored.set()

    async def leave():
        messages = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])

        async def receive():
            return next(messages)

        async def send(message):
            raise AssertionError("nothing to send")

        await Threads(slow)({"type": "http"}, receive, send)

    asyncio.run(leave())
    assert stored.is_set()


def test_start_and_end_stay_on_the_servers_loop():
    seen = []

    async def app(scope, receive, send):
        seen.append(threading.current_thread() is threading.main_thread())

    asyncio.run(Threads(app)({"type": "lifespan"}, None, None))

    assert seen == [True]
