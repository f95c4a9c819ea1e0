"""Who may log in at a site's label server: names, roles and hashed passwords."""

from __future__ import annotations

import functools
import json
import secrets
import unicodedata
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import Field

from segfed.errors import ConfigError
from segfed.files import locked, sha256_bytes, write_private
from segfed.settings import Settings, validated
from segfed.sites.tasks import Name

ACCOUNTS_FILE = "accounts.json"
KEY_FILE = "accounts.key"
MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 256

Role = Literal["annotator", "reviewer", "admin"]
"""What a person may do, rising: each role may do what those before it may."""

_HASHER = PasswordHasher()  # Argon2id with the parameters of RFC 9106 for 64 MiB


class Account(Settings):
    """One person who may log in."""

    name: Name
    role: Role
    password_hash: Annotated[str, Field(pattern=r"^\$argon2id\$", repr=False)]

    @property
    def stamp(self) -> str:
        """Changes with the password, and says nothing about it."""
        return sha256_bytes(self.password_hash.encode())[:16]


class _AccountsFile(Settings):
    """``accounts.json``."""

    accounts: tuple[Account, ...]


def read_accounts(site_folder: Path) -> dict[str, Account]:
    """A site's accounts by name, in the order in which they were added; none without a file.

    Raises:
        ConfigError: If the file is damaged, or others than its owner can read it.
    """
    path = site_folder / ACCOUNTS_FILE
    content = _read_private(path)
    if content is None:
        return {}
    try:
        raw = json.loads(content)
    except ValueError as error:
        raise ConfigError(
            f"{path} is not valid JSON: {error}. Restore it from a backup, or remove it and add "
            "the accounts again."
        ) from error
    accounts = validated(raw, _AccountsFile, source=str(path)).accounts
    return {account.name: account for account in accounts}


def add_account(site_folder: Path, *, name: str, role: Role, password: str) -> Account:
    """A new account, written to the site.

    Raises:
        ConfigError: If the name is taken, also in other letter case, or is no safe name, or the
            password is too short.
    """
    password_hash = _hashed(password)
    account = validated(
        {"name": name, "role": role, "password_hash": password_hash}, Account, source="The account"
    )
    with _locked(site_folder):
        accounts = read_accounts(site_folder)
        taken = [known for known in accounts if known.casefold() == name.casefold()]
        if taken:
            raise ConfigError(
                f"{site_folder} already has an account {taken[0]!r}; expected a new name, because "
                "labels bear it for good. Choose another name, or set that account's password."
            )
        _write(site_folder, [*accounts.values(), account])
    return account


def remove_account(site_folder: Path, name: str) -> None:
    """Remove an account; whoever is logged in with it is shut out at the next request.

    Raises:
        ConfigError: If there is no such account.
    """
    with _locked(site_folder):
        accounts = read_accounts(site_folder)
        _known(accounts, name, site_folder)
        _write(site_folder, (account for account in accounts.values() if account.name != name))


def set_password(site_folder: Path, *, name: str, password: str) -> None:
    """Give an account another password; earlier logins end.

    Raises:
        ConfigError: If there is no such account, or the password is too short.
    """
    password_hash = _hashed(password)
    with _locked(site_folder):
        accounts = read_accounts(site_folder)
        account = _known(accounts, name, site_folder)
        changed = account.model_copy(update={"password_hash": password_hash})
        _write(site_folder, (accounts | {name: changed}).values())


def set_role(site_folder: Path, *, name: str, role: Role) -> None:
    """Give an account another role, from its next request on.

    Raises:
        ConfigError: If there is no such account.
    """
    with _locked(site_folder):
        accounts = read_accounts(site_folder)
        account = _known(accounts, name, site_folder)
        changed = account.model_copy(update={"role": role})
        _write(site_folder, (accounts | {name: changed}).values())


def may_act_as(role: Role, least: Role) -> bool:
    """Whether somebody with a role may do what another role may."""
    rising = get_args(Role)
    return rising.index(role) >= rising.index(least)


def is_password(account: Account | None, password: str) -> bool:
    """Whether a password is the account's; takes as long for an account that does not exist."""
    expected = account.password_hash if account else _nobodys_hash()
    try:
        _HASHER.verify(expected, _normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return account is not None


def signing_key(site_folder: Path) -> bytes:
    """The secret with which the site's label server signs logins; made at first use.

    Raises:
        ConfigError: If others than its owner can read it.
    """
    path = site_folder / KEY_FILE
    with _locked(site_folder):
        key = _read_private(path)
        if key is None:
            key = secrets.token_hex(32)
            write_private(path, key.encode())
    return bytes.fromhex(key)


def _known(accounts: dict[str, Account], name: str, site_folder: Path) -> Account:
    if name not in accounts:
        raise ConfigError(
            f"{site_folder} has no account {name!r} among {', '.join(accounts) or 'none'}. Check "
            "the name with `segfed label user list`, or add it."
        )
    return accounts[name]


def _hashed(password: str) -> str:
    """An Argon2id hash of a new password."""
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS:
        raise ConfigError(
            f"Found a password of {len(password)} characters; expected {MIN_PASSWORD_CHARACTERS} "
            f"to {MAX_PASSWORD_CHARACTERS}. Choose another: a few words are good."
        )
    return _HASHER.hash(_normal(password))


def _normal(password: str) -> str:
    """The same bytes for the same letters: keyboards compose accents differently."""
    return unicodedata.normalize("NFC", password[:MAX_PASSWORD_CHARACTERS])


@functools.cache
def _nobodys_hash() -> str:
    """A hash to compare with where there is no account."""
    return _HASHER.hash(secrets.token_hex(16))


def _write(site_folder: Path, accounts: Iterable[Account]) -> None:
    content = _AccountsFile(accounts=tuple(accounts)).model_dump_json(indent=2)
    write_private(site_folder / ACCOUNTS_FILE, f"{content}\n".encode())


def _read_private(path: Path) -> str | None:
    """A file's content, None without a file; refuses one that others can read or change."""
    try:
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise ConfigError(
            f"{path} has the mode {mode:03o}, so that others on this machine can read or change "
            f"it; expected 600. Run `chmod 600 {path}`; if somebody may have read it, set new "
            "passwords and remove the file with the key."
        )
    return path.read_text(encoding="utf-8")


def _locked(site_folder: Path) -> AbstractContextManager[None]:
    """Hold the site's accounts, so that two changes cannot undo each other."""
    return locked(site_folder / ".accounts.lock")
