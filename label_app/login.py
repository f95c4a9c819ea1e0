"""The login as 3D Slicer's own dialog does it, and the tokens that it gives out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import jwt
from fastapi import HTTPException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from label_app.attempts import Attempts
from label_app.reader import Reader
from segfed.sites import is_password, read_accounts, signing_key

logger = logging.getLogger(__name__)

TOKEN_SECONDS = 12 * 3600
"""A working day: Slicer logs in again by itself as long as it stays open."""

_ALGORITHM = "HS256"
# An Argon2 hash takes 64 MiB: strangers who log in all at once wait for each other.
_HASHES_AT_ONCE = 2
_UNAUTHORIZED = {"WWW-Authenticate": "Bearer"}


class Desk:
    """Gives out tokens for passwords, and knows who holds one.

    A token names its account and the password's stamp. Both are compared with the accounts file
    at every request, so that removing an account or changing its password ends its logins at once.
    """

    def __init__(self, site_folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._site_folder = site_folder
        self._clock = clock
        self._key = signing_key(site_folder)
        self._attempts = Attempts()
        self._hashing = asyncio.Semaphore(_HASHES_AT_ONCE)

    async def log_in(self, *, name: str, password: str, address: str) -> str:
        """A token for an account's name and password.

        Raises:
            HTTPException: 401 if there is no account with both, 429 after too many attempts.
        """
        self._attempts.begin(name=name, address=address)
        account = read_accounts(self._site_folder).get(name)
        async with self._hashing:
            is_right = await asyncio.to_thread(is_password, account, password)
        if account is None or not is_right:
            # What was typed as a name may be somebody's password.
            logger.warning("Login as %s from %s failed", account.name if account else "?", address)
            raise HTTPException(
                401,
                "Found no account with this name and password; expected those that the site's "
                "administrator gave you. Try again.",
                headers=_UNAUTHORIZED,
            )
        self._attempts.succeeded(name=name, address=address)
        logger.info("%s logged in from %s", account.name, address)
        now = int(self._clock())
        claims = {
            "sub": account.name,
            "stamp": account.stamp,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def holder(self, authorization: str | None) -> Reader:
        """Whose token an ``Authorization`` header bears.

        Raises:
            HTTPException: 401, in words that Slicer shows.
        """
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer":
            _refuse("a request without a login; name or password may have been wrong")
        try:
            claims = jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], options={"require": ["exp", "sub"]}
            )
        except jwt.ExpiredSignatureError:
            _refuse(f"a login that expired, {TOKEN_SECONDS // 3600} hours after it was made")
        except jwt.InvalidTokenError:
            _refuse("a login that this server did not give out")
        return self.still(Reader(claims["sub"], "annotator", str(claims.get("stamp"))))

    def still(self, reader: Reader) -> Reader:
        """Somebody who logged in earlier, in their role of today.

        Raises:
            HTTPException: 401 if their account is gone or its password another one.
        """
        account = read_accounts(self._site_folder).get(reader.name)
        if account is None or account.stamp != reader.stamp:
            _refuse("a login whose account was removed or has another password now")
        return Reader(account.name, account.role, account.stamp)


def _refuse(found: str) -> NoReturn:
    raise HTTPException(
        401,
        f"Found {found}; expected a valid one. Repeat what you did, and log in when asked.",
        headers=_UNAUTHORIZED,
    )


def login_app(desk: Desk) -> Starlette:
    """The three requests with which Slicer logs in."""

    async def enabled(_: Request) -> JSONResponse:
        return JSONResponse({"enabled": True})

    async def token(request: Request) -> JSONResponse:
        async with request.form(max_files=0, max_fields=8) as form:
            name, password = str(form.get("username", "")), str(form.get("password", ""))
        address = request.client.host if request.client else ""
        made = await desk.log_in(name=name, password=password, address=address)
        return JSONResponse({"access_token": made, "token_type": "bearer"})

    async def valid(request: Request) -> JSONResponse:
        reader = desk.holder(request.headers.get("authorization"))
        return JSONResponse({"username": reader.name, "roles": [reader.role]})

    async def explain(_: Request, error: AnyHTTPException) -> JSONResponse:
        return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)

    return Starlette(
        routes=[
            Route("/auth/", enabled),
            Route("/auth/token", token, methods=["POST"]),
            Route("/auth/token/valid", valid),
        ],
        exception_handlers={AnyHTTPException: explain},
    )
