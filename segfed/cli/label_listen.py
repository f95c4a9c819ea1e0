"""Where a label server listens, and what the site must have for that."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from segfed.errors import ServerError

LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"


@dataclass(frozen=True)
class Listen:
    """An address of this machine, and how others reach it."""

    host: str = LOOPBACK
    """An IPv4 address of this machine; 0.0.0.0 stands for all of them."""

    port: int = 0
    """0 takes any free port."""

    certificate: Path | None = None
    key: Path | None = None
    public_names: tuple[str, ...] = ()
    """Host names under which others reach the server."""

    @property
    def bound_url(self) -> str:
        """The address as the server itself announces it."""
        return f"{self._scheme}://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where a reader connects."""
        name = self.public_names[0] if self.public_names else self.host
        return f"{self._scheme}://{name}:{self.port}"

    @property
    def local_url(self) -> str:
        """Where this machine connects."""
        host = LOOPBACK if self.host == ANY else self.host
        return f"{self._scheme}://{host}:{self.port}"

    @property
    def known_names(self) -> tuple[str, ...]:
        """Every host name with which a request may come."""
        # Web pages can name 0.0.0.0, too, and reach this machine by it.
        return (*self.public_names, *((self.host,) if self.host != ANY else ()))

    @property
    def _scheme(self) -> str:
        return "https" if self.certificate else "http"


def check_listen(listen: Listen, *, has_accounts: bool, reader: str | None) -> None:
    """Refuse to open a site to others without logins and encryption.

    Args:
        listen: Where to listen.
        has_accounts: Whether the site has accounts.
        reader: Whose name all labels would bear, if given.

    Raises:
        ServerError: Saying all that is missing.
    """
    try:
        address = ipaddress.IPv4Address(listen.host)
    except ValueError as error:
        raise ServerError(
            f"Found the host {listen.host!r}; expected an IPv4 address of this machine, or 0.0.0.0 "
            "for all of them. Give host names with --public-name."
        ) from error
    if reader is not None and has_accounts:
        raise ServerError(
            f"Found --reader {reader} for a site that has accounts; expected readers to log in, so "
            "that each label bears its own reader's name. Leave --reader out."
        )
    if (listen.certificate is None) != (listen.key is None):
        raise ServerError(
            "Found only one of --tls-certificate and --tls-key; expected both or neither. Give "
            "the other one, too."
        )
    missing = _missing(listen, has_accounts=has_accounts)
    if not address.is_loopback and missing:
        raise ServerError(
            f"Found the host {listen.host}, where others can reach this machine, without "
            f"{' and '.join(missing)}; expected all of these, because patients' images are served. "
            "Add what is missing, or leave --host out to serve this machine only."
        )
    if listen.certificate and listen.key:
        _check_certificate(listen.certificate, listen.key)


def _missing(listen: Listen, *, has_accounts: bool) -> list[str]:
    """What a server for others still needs."""
    needs = {
        "accounts (`segfed label user add`)": has_accounts,
        "--tls-certificate and --tls-key": listen.certificate is not None,
        "--public-name, the name under which readers reach it": bool(listen.public_names),
    }
    return [need for need, is_met in needs.items() if not is_met]


def _check_certificate(certificate: Path, key: Path) -> None:
    """Refuse files with which the server would not start."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The server cannot ask for a password: one that is never right instead of a prompt.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ServerError(
            f"Cannot use the certificate {certificate} with the key {key}: {error}; expected two "
            "PEM files that belong together, the key without a password. Check both."
        ) from error


def free_port(host: str, port: int) -> int:
    """The port itself, or any for 0, if nobody listens there.

    Raises:
        ServerError: If it cannot be had.
    """
    with socket.socket() as probe:
        # As the server binds: connections that linger after an earlier server do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ServerError(
                f"Port {port} of {host} cannot be had: {error}; expected a port on which nobody "
                "listens. Choose another with --port, or end the program that has this one."
            ) from error
        return int(probe.getsockname()[1])
