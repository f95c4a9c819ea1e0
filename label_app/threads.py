"""Every request in a thread of its own, so that a slow one holds up no other."""

from __future__ import annotations

import asyncio
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_THREADS = 64
"""More than the proposals that may wait (see `label_app.worker`): others always find a thread."""


class Threads:
    """Runs an ASGI app's requests in threads, each with an event loop of its own.

    MONAI Label's endpoints are ``async def`` around synchronous code: on the server's own loop,
    one of them would keep all others waiting. Here the server's loop does nothing but carry
    messages. Start and end of the server stay on it. The request's context variables, such as
    who the reader is, are copied into the thread.
    """

    def __init__(self, app: ASGIApp, *, most: int = MOST_THREADS) -> None:
        """Wrap an app.

        Args:
            app: What answers.
            most: Requests that are answered at the same time; further ones wait.
        """
        self._app = app
        self._limiter = CapacityLimiter(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request in a thread; whatever it raises is raised here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()

        async def receive_there() -> Message:
            message: Message = await _on(loop, receive())
            return message

        async def send_there(message: Message) -> None:
            await _on(loop, send(message))

        async def answer() -> None:
            await self._app(scope, receive_there, send_there)

        # A client that goes away does not stop the thread: what it began, such as storing a label,
        # is finished. The app learns of it from receive, as on any server.
        await to_thread.run_sync(lambda: asyncio.run(answer()), limiter=self._limiter)


async def _on(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    """The result of a coroutine that runs on another thread's loop."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))
