"""What goes in and out of the label server, bounded and without a word too many."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

IDLE_SECONDS = 60.0
"""A sender who is silent for so long in the middle of a body is given up."""

MAX_DRAINED_BYTES = 2 * 1024**3
_MAX_NOTED_BYTES = 64 * 1024
_SERVER_ERROR = (
    "The label server met an error that it did not expect; your earlier labels are safe. Try "
    "again, and if it happens again, ask the site's administrator to look into the server's log."
)


def bounded(receive: Receive, *, most_bytes: int) -> Receive:
    """A body that ends in an error where it grows too long or stops coming.

    Args:
        receive: The body as it arrives.
        most_bytes: How many bytes it may have, whatever it announced.
    """
    count, complete = 0, False

    async def receive_bounded() -> Message:
        nonlocal count, complete
        if complete:
            return await receive()  # the end of the connection, which may take its time
        try:
            message = await asyncio.wait_for(receive(), IDLE_SECONDS)
        except TimeoutError as error:
            raise HTTPException(
                408,
                f"Found no data for {IDLE_SECONDS:g} seconds; expected the rest of the request. "
                "Check the network and try again.",
            ) from error
        count += len(message.get("body", b""))
        if count > most_bytes:
            raise HTTPException(413, too_long(count, most_bytes))
        complete = not message.get("more_body", False)
        return message

    return receive_bounded


def without_body(receive: Receive) -> Receive:
    """A request without a body, whatever it announced.

    MONAI Label's own client repeats the length of its last upload when it then asks for something.
    """
    sent = False

    async def receive_nothing() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive_nothing


def too_long(found_bytes: int, most_bytes: int) -> str:
    """The reason for refusing a body."""
    return (
        f"Found a request of {found_bytes} bytes or more; expected at most {most_bytes}. Save the "
        "label compressed, as .nii.gz or .nrrd, and check that it is one."
    )


async def drain(receive: Receive) -> None:
    """Read the rest of a refused body and drop it.

    A client that is still sending would otherwise see a broken connection instead of the reason.
    """
    rest = bounded(receive, most_bytes=MAX_DRAINED_BYTES)
    try:
        while (await rest()).get("more_body", False):
            pass
    except HTTPException:
        pass  # it goes on for too long: the connection breaks


def noting(send: Send, note: Callable[[object], None]) -> Send:
    """Hand the JSON of a good answer to ``note`` before its last byte leaves."""
    content, is_good = bytearray(), False

    async def send_noting(message: Message) -> None:
        nonlocal is_good
        if message["type"] == "http.response.start":
            is_good = message["status"] == 200
        elif is_good and len(content) <= _MAX_NOTED_BYTES:
            content.extend(message.get("body", b""))
            if not message.get("more_body", False):
                note(json.loads(content))
        await send(message)

    return send_noting


class Discreet:
    """Sends answers on, but of an inner error (500) no more than one sentence."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._request = scope, receive
        self._send = send
        self._started = False
        self._replaced = False

    async def send(self, message: Message) -> None:
        """Send a part of an answer."""
        if message["type"] == "http.response.start" and message["status"] == 500:
            await self.send_error()
        if self._replaced:
            return
        self._started = True
        await self._send(message)

    async def send_error(self) -> None:
        """Answer with the sentence, unless an answer is under way."""
        if self._started or self._replaced:
            return
        self._replaced = True
        scope, receive = self._request
        logger.error("Error 500 at %s %s", scope["method"], scope["path"])
        await JSONResponse({"detail": _SERVER_ERROR}, 500)(scope, receive, self._send)
