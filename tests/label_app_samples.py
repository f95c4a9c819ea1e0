"""Requests to an ASGI app without a server."""

from __future__ import annotations

import asyncio

import httpx
from starlette.types import ASGIApp

URL = "http://127.0.0.1"


def ask(app: ASGIApp, *requests: tuple, address: str = "10.0.0.1") -> list[httpx.Response]:
    """The answers to requests (method, path[, options]) from one address, in their order."""

    async def send_all() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, client=(address, 1234))
        async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
            return [
                await client.request(method, path, **(options[0] if options else {}))
                for method, path, *options in requests
            ]

    return asyncio.run(send_all())
