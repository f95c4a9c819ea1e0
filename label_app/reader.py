"""Who asks: the person whose request is being answered, as the gate made sure of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from segfed.sites import Role


@dataclass(frozen=True)
class Reader:
    """A person at the label server."""

    name: str
    role: Role
    stamp: str = ""
    """Of the password with which they logged in; see `Account.stamp`."""


_ASKING: ContextVar[Reader] = ContextVar("reader")


def current_reader() -> Reader:
    """The person whose request is being answered.

    Raises:
        LookupError: Outside of a request that passed the gate: no label may be anybody's guess.
    """
    return _ASKING.get()


@contextmanager
def asking(reader: Reader) -> Iterator[None]:
    """Answer a reader's request within the block, and in threads that copy its context."""
    token = _ASKING.set(reader)
    try:
        yield
    finally:
        _ASKING.reset(token)
