"""The door of the label server: what is not on its list does not reach MONAI Label.

MONAI Label offers far more than 3D Slicer needs, some of it dangerous on any machine that also
runs a browser: uploads over the app's own code, scoring, a proxy into the hospital's
archive, and answers to whatever web page asks.
"""

from __future__ import annotations

import re

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_NAME = r"[A-Za-z0-9_-]{1,100}"
ROUTES = (
    ("GET", re.compile(r"/info/")),
    ("POST", re.compile(rf"/activelearning/{_NAME}")),
    ("GET", re.compile(r"/datastore/")),
    ("GET", re.compile(r"/datastore/image")),
    ("HEAD", re.compile(r"/datastore/image")),
    ("GET", re.compile(r"/datastore/label")),
    ("PUT", re.compile(r"/datastore/label")),
    ("POST", re.compile(rf"/infer/{_NAME}")),
    ("GET", re.compile(r"/train/")),
    ("POST", re.compile(rf"/train/{_NAME}")),
    ("DELETE", re.compile(r"/train/")),
    ("GET", re.compile(rf"/channels/{_NAME}(/{_NAME})?")),
)
"""The requests of 3D Slicer's module, and of our script there, that this server answers."""

MAX_BODY_BYTES = 256 * 1024**2
"""A label of 512 x 512 x 1000 voxels has this many bytes before it is compressed."""

_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")


class Gate:
    """Passes on what 3D Slicer asks for, and answers everything else itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's start and end."""
        if scope["type"] == "http":
            refusal = refuse(scope)
            if refusal is not None:
                status, reason = refusal
                await JSONResponse({"detail": reason}, status)(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return
        await self._app(scope, receive, send)


def refuse(scope: Scope) -> tuple[int, str] | None:
    """HTTP status and reason if a request may not pass; None if it may."""
    method, path = scope["method"], scope["path"]
    if not any(method == verb and route.fullmatch(path) for verb, route in ROUTES):
        return 404, f"{method} {path} is not served here"
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    # Browsers name the page that sends a request, Slicer does not: no web page gets an answer.
    if "origin" in headers:
        return 403, "Requests from web pages are not answered"
    # A web page can point its own host name at this machine; it cannot forge the name it sends.
    if not _LOOPBACK.fullmatch(headers.get("host", "")):
        return 403, "Only requests to this machine by its loopback address are answered"
    if "transfer-encoding" in headers:
        return 411, "A request must state the length of its body"
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        return 413, f"The request has {length} bytes; at most {MAX_BODY_BYTES} are taken"
    return None
