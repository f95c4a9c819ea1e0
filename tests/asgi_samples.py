"""Requests to an ASGI app within the test's process.

Starlette's own test client wants another HTTP library than the one that this project has.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from starlette.types import ASGIApp


class Client:
    """Sends one request at a time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        """The app's answer."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **content)

        return asyncio.run(send())

    def get(self, path: str, **content: Any) -> httpx.Response:
        """The answer to GET."""
        return self.request("GET", path, **content)

    def post(self, path: str, **content: Any) -> httpx.Response:
        """The answer to POST."""
        return self.request("POST", path, **content)
