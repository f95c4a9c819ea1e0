"""What 3D Slicer's module asks for, to the letter: all that the label server answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import Scope

from label_app.bodies import too_long
from segfed.sites import Role

_NAME = r"[A-Za-z0-9_-]{1,100}"
_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
_TAG = "final|original"

MAX_UPLOAD_BYTES = 256 * 1024**2
"""A label of 512 x 512 x 1000 voxels has this many bytes before it is compressed."""

MAX_JSON_BYTES = 64 * 1024
MAX_HEADER_BYTES = 16 * 1024

METHODS_WITH_BODY = ("POST", "PUT")
"""Others have none, whatever they announce; see `label_app.bodies.without_body`."""


@dataclass(frozen=True)
class Route:
    """One kind of request."""

    method: str
    path: str
    """A regular expression, as those of the parameters are."""

    query: Mapping[str, str] = field(default_factory=dict)
    """Which parameters the address may have, and what they look like."""

    max_body_bytes: int = 0
    role: Role = "annotator"
    """The least role that may ask."""


NEXT_SAMPLE = Route("POST", rf"/activelearning/{_NAME}", max_body_bytes=MAX_JSON_BYTES)
DOWNLOAD = (
    Route("GET", "/datastore/image", query={"image": _ID}),
    Route("HEAD", "/datastore/image", query={"image": _ID}),
)
AUTH = (
    Route("GET", "/auth/"),
    Route("POST", "/auth/token", max_body_bytes=4096),
    Route("GET", "/auth/token/valid"),
)
ROUTES = (
    *AUTH,
    Route("GET", "/info/"),
    NEXT_SAMPLE,
    Route("GET", "/datastore/", query={"output": "all"}),
    *DOWNLOAD,
    Route("GET", "/datastore/label", query={"label": _ID, "tag": _TAG}),
    Route(
        "PUT",
        "/datastore/label",
        query={"image": _ID, "tag": _TAG},
        max_body_bytes=MAX_UPLOAD_BYTES,
    ),
    Route("POST", rf"/infer/{_NAME}", query={"image": _ID}, max_body_bytes=MAX_UPLOAD_BYTES),
    Route("GET", "/train/", query={"check_if_running": "(?i:true|false)"}),
    # What is trained here proposes to everybody.
    Route("POST", rf"/train/{_NAME}", max_body_bytes=MAX_JSON_BYTES, role="reviewer"),
    Route("DELETE", "/train/", role="reviewer"),
    Route("GET", rf"/channels/{_NAME}(/{_NAME})?"),
)
"""The requests of 3D Slicer's module, and of our script there, that this server answers."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")


def admit(scope: Scope, *, public_names: Collection[str] = ()) -> Route:
    """The route of a request that may pass, as far as its head tells.

    Args:
        scope: The request.
        public_names: Under which host names, besides loopback, the server is reached.

    Raises:
        HTTPException: 404 for what is not served or cannot be the name of a case, 403 for web
            pages and other host names, and 4xx for parameters, headers and lengths out of bounds.
    """
    route = _matching(scope["method"], scope["path"])
    headers = Headers(scope=scope)
    _check_sender(headers, public_names)
    _check_query(route, scope["query_string"])
    _check_lengths(route, headers)
    return route


def _matching(method: str, path: str) -> Route:
    for route in ROUTES:
        if method == route.method and re.fullmatch(route.path, path):
            return route
    raise HTTPException(
        404,
        f"{method} {path} is not served here; expected what labelling a case needs. Open a case "
        "with Next Sample.",
    )


def _check_sender(headers: Headers, public_names: Collection[str]) -> None:
    """Refuse web pages, which would act in the name of whoever looks at them."""
    # Browsers name the page that sends a request, Slicer does not: no web page gets an answer.
    if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
        raise HTTPException(403, "Requests from web pages are not answered")
    # A web page can point its own host name at this machine; it cannot forge the name it sends.
    host = _HOST.fullmatch(headers.get("host", ""))
    known = {*_LOOPBACK, *(name.lower() for name in public_names)}
    if host is None or host["name"].lower() not in known:
        raise HTTPException(
            403,
            f"Found a request to {headers.get('host', '')[:80]!r}; expected one to a name of this "
            "server. Enter its address just as it was given to you; whoever runs the server adds "
            "names with --public-name.",
        )


def _check_query(route: Route, query: bytes) -> None:
    """Refuse parameters that 3D Slicer does not send, before anything looks for them on a disk."""
    try:
        given = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise HTTPException(400, "Found too many parameters; expected at most 8") from error
    if len(dict(given)) < len(given):
        raise HTTPException(400, "Found a parameter twice; expected each at most once")
    for name, value in given:
        if name not in route.query:
            raise HTTPException(
                400,
                f"Found the parameter {name[:40]!r}; expected "
                f"{' and '.join(route.query) or 'none'}. Leave it out.",
            )
        if not re.fullmatch(route.query[name], value):
            raise HTTPException(
                404,
                f"Found {name} {value[:40]!r}; expected one that this server handed out. Choose "
                "a case with Next Sample.",
            )


def _check_lengths(route: Route, headers: Headers) -> None:
    if sum(len(name) + len(value) for name, value in headers.raw) > MAX_HEADER_BYTES:
        raise HTTPException(431, f"The headers are longer than {MAX_HEADER_BYTES} bytes")
    if "transfer-encoding" in headers:
        raise HTTPException(411, "A request must state the length of its body")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        raise HTTPException(400, "A request must state the length of its body as a number")
    if route.method in METHODS_WITH_BODY and int(length) > route.max_body_bytes:
        raise HTTPException(413, too_long(int(length), route.max_body_bytes))
