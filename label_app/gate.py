"""The door of the label server: what is not on its list does not reach MONAI Label.

MONAI Label offers far more than 3D Slicer needs, some of it dangerous on any machine that also
runs a browser: uploads over the app's own code, scoring, a proxy into the hospital's
archive, and answers to whatever web page asks.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cachetools import TTLCache
from fastapi import HTTPException
from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from label_app.bodies import Discreet, bounded, drain, noting, without_body
from label_app.login import Desk, login_app
from label_app.reader import Reader, asking
from label_app.routes import AUTH, DOWNLOAD, METHODS_WITH_BODY, NEXT_SAMPLE, Route, admit
from segfed.sites import may_act_as, read_accounts

logger = logging.getLogger(__name__)

GRANT_SECONDS = 1800.0
MOST_AT_ONCE = 64
"""Requests from one address at a time; Slicer sends one after the other."""

_MOST_GRANTS = 10_000


class Gate:
    """Passes on what 3D Slicer asks for, and answers everything else itself.

    3D Slicer downloads images without its login. So an image that was offered to a reader may be
    had without one for a while, but only from the address of that reader.
    """

    def __init__(
        self,
        app: ASGIApp,
        door: Desk | Reader,
        *,
        public_names: Collection[str] = (),
        has_accounts: Callable[[], bool] = lambda: False,
    ) -> None:
        """Guard an app.

        Args:
            app: MONAI Label.
            door: Where readers log in, or the one reader of a server without accounts.
            public_names: Under which host names, besides loopback, the server is reached.
            has_accounts: Whether a site that is served to one reader has got accounts since.
        """
        self._app = app
        self._door = door
        self._login = login_app(door) if isinstance(door, Desk) else None
        self._has_accounts = has_accounts
        self._names = frozenset(public_names)
        self._grants = TTLCache(_MOST_GRANTS, GRANT_SECONDS)
        self._at_once: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = Discreet(scope, receive, send)
            try:
                await self._serve(scope, receive, answer.send)
            except Exception:  # whatever it was, a stranger learns nothing of it
                logger.exception("Error at %s %s", scope["method"], scope["path"])
                await answer.send_error()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not."""
        has_body = scope["method"] in METHODS_WITH_BODY
        try:
            with self._one_more(_address(scope)):
                try:
                    route = admit(scope, public_names=self._names)
                    body = (
                        bounded(receive, most_bytes=route.max_body_bytes)
                        if has_body
                        else without_body(receive)
                    )
                    await self._pass(route, scope, body, send)
                except HTTPException:
                    if has_body:
                        await drain(receive)
                    raise
        except HTTPException as refusal:
            answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
            await answer(scope, receive, send)

    async def _pass(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the login or, in its reader's name, to the app."""
        if isinstance(self._door, Reader) and self._has_accounts():
            raise HTTPException(
                503,
                "Found accounts at this site, which had none when its server was started; expected "
                "readers to log in. Ask the site's administrator to start the server again.",
            )
        if route in AUTH:
            if self._login is None:
                raise HTTPException(404, "This server asks for no login")
            await self._login(scope, receive, send)
            return
        reader = self._identify(route, scope)
        if not may_act_as(reader.role, route.role):
            raise HTTPException(
                403,
                f"Found an account with the role {reader.role}; expected {route.role} for this. "
                "Ask the site's administrator.",
            )
        if route is NEXT_SAMPLE:
            send = noting(send, lambda sample: self._grant(scope, reader, sample))
        with asking(reader):
            await self._app(scope, receive, send)

    def _identify(self, route: Route, scope: Scope) -> Reader:
        """Who asks.

        Raises:
            HTTPException: 401 if nobody knows.
        """
        if isinstance(self._door, Reader):
            return self._door
        authorization = Headers(scope=scope).get("authorization")
        if authorization is None and route in DOWNLOAD:
            image_id = QueryParams(scope["query_string"]).get("image")
            granted = self._grants.get((_address(scope), image_id))
            if granted is not None:
                return self._door.still(granted)
        return self._door.holder(authorization)

    def _grant(self, scope: Scope, reader: Reader, sample: Any) -> None:
        """Let the image of an offered sample be downloaded without a login."""
        if isinstance(sample, dict) and "id" in sample:
            self._grants[_address(scope), sample["id"]] = reader

    @contextmanager
    def _one_more(self, address: str) -> Iterator[None]:
        """Count a request while it is answered.

        Raises:
            HTTPException: 503 if there are too many from its address.
        """
        if self._at_once[address] >= MOST_AT_ONCE:
            raise HTTPException(
                503,
                f"Found {MOST_AT_ONCE} requests from this address at a time; expected fewer. Try "
                "again in a minute.",
                headers={"Retry-After": "60"},
            )
        self._at_once[address] += 1
        try:
            yield
        finally:
            self._at_once[address] -= 1
            if not self._at_once[address]:
                del self._at_once[address]


def guarded(app: ASGIApp, *, site_folder: Path, conf: Mapping[str, str]) -> Gate:
    """An app behind the gate.

    Args:
        app: MONAI Label.
        site_folder: The site whose accounts may log in.
        conf: ``reader`` names the one reader of a server for their own machine; without it
            readers log in. ``public_names`` lists host names, with blanks between them.
    """
    name = conf.get("reader")
    # The one reader of a server without accounts keeps the site, and may do all there is to do.
    door = Reader(name, "admin") if name else Desk(site_folder)
    return Gate(
        app,
        door,
        public_names=conf.get("public_names", "").split(),
        has_accounts=lambda: bool(read_accounts(site_folder)),
    )


def _address(scope: Scope) -> str:
    """The peer's address, as the connection has it: what a proxy claims is not believed."""
    client = scope.get("client")
    return str(client[0]) if client else ""
