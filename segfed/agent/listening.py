"""A Unix socket that only some users may call, and the server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from segfed.errors import ConfigError, FederationError
from segfed.files import locked

logger = logging.getLogger(__name__)

# sockaddr_un holds 108 bytes, the last of them zero.
_LONGEST_PATH = 107
_UCRED = struct.Struct("3i")
_FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def make_server(app: ASGIApp, *, peers: Iterable[int]) -> uvicorn.Server:
    """A server that answers the given users and sends everybody else away unread.

    Args:
        app: What answers.
        peers: Numbers of the users that may call, as the kernel tells them.
    """
    config = uvicorn.Config(
        app,
        http=_checked_protocol(frozenset(peers)),
        loop="asyncio",
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def listening_socket(path: Path, *, shared: bool) -> Iterator[socket.socket]:
    """A bound socket at a path, which is gone afterwards.

    Args:
        path: Where; what a killed agent left there is replaced.
        shared: Whether the group of the socket may call, too; else only its owner.

    Raises:
        ConfigError: If the path is too long, others may write to its folder, or something else
            lies there.
        FederationError: If another process listens there.
    """
    if sys.platform != "linux":
        raise ConfigError(
            f"This system is {sys.platform}, expected Linux, whose kernel tells who calls. Run "
            "the agent there."
        )
    length = len(os.fsencode(path))
    if length > _LONGEST_PATH:
        raise ConfigError(
            f"The path of the agent's socket, {path}, has {length} bytes; Unix allows "
            f"{_LONGEST_PATH}. Name a shorter one in the [agent] table of site.toml or with "
            "--socket."
        )
    _check_folder(path.parent)
    _remove_left(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        # Nobody can connect before it listens, so nobody can be faster than this.
        path.chmod(0o660 if shared else 0o600)
        try:
            yield server
        finally:
            path.unlink(missing_ok=True)


def only_agent(site_folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the site, so that no second agent trains on it; ends with the process, too.

    Raises:
        FederationError: If another agent has it.
    """
    lock = site_folder / "cache" / "agent.lock"
    lock.parent.mkdir(exist_ok=True)
    taken = FederationError(
        f"Another agent of the site {site_folder} runs; expected none. Stop that one first, or use "
        "it."
    )
    return locked(lock, otherwise=taken)


def peer_uid(connection: socket.socket) -> int:
    """Number of the user at the other end of a Unix socket, as the kernel knows it."""
    answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _pid, uid, _gid = _UCRED.unpack(answer)
    return int(uid)


def _checked_protocol(peers: frozenset[int]) -> type[asyncio.Protocol]:
    """uvicorn's HTTP, which looks at the caller before the first byte."""

    class PeerChecked(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            uid = peer_uid(transport.get_extra_info("socket"))
            if uid not in peers:
                logger.warning(
                    "A program of user %d called and was sent away; expected one of %s. Add the "
                    "number to peers in the [agent] table of site.toml, if it is the relay's.",
                    uid,
                    ", ".join(map(str, sorted(peers))),
                )
                transport.write(_FORBIDDEN)
                transport.close()

    return PeerChecked


def _check_folder(folder: Path) -> None:
    """Make the socket's folder, or refuse one in which others could put a socket of theirs."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = folder.stat()
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if found.st_uid not in {0, os.geteuid()} or others_write:
        raise ConfigError(
            f"The folder of the agent's socket, {folder}, belongs to user {found.st_uid} with the "
            f"mode {stat.S_IMODE(found.st_mode):o}; expected one of user {os.geteuid()}'s, to "
            "which nobody else may write. Name another with --socket."
        )


def _remove_left(path: Path) -> None:
    """Remove the socket of a killed process; refuse anything else."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ConfigError(
            f"{path} is no socket, expected a free path for the agent's. Name another with "
            "--socket, or remove that file."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FederationError(
        f"Another process listens at {path}, expected nobody. Stop that one, or name another "
        "path with --socket."
    )
