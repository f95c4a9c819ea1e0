"""Tables that only grow: each row carries the hash of the row before it."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segfed.errors import LedgerError
from segfed.files import sha256_json

GENESIS = "0" * 64
"""Stands for the hash before the first row's."""

Row = dict[str, Any]

_BUSY_SECONDS = 60.0
_VERSION = 2
"""Of the tables in the file; version 1 chained label records only."""


@dataclass(frozen=True)
class ChainedTable:
    """A table of the ledger's file, and how its rows are called in messages."""

    name: str
    key: str
    noun: str
    columns: Mapping[str, str]
    """SQL type of every column but the key and the two hashes."""

    later: tuple[str, ...] = ()
    """Columns that rows of version 1 were hashed without: an empty one stays out of the hash."""

    indexed: tuple[str, ...] = ()


@contextmanager
def connect(path: Path, tables: Sequence[ChainedTable]) -> Iterator[sqlite3.Connection]:
    """A connection whose commits are on disk when they return; rows come as mappings.

    Raises:
        LedgerError: If the file is no ledger or cannot be used.
    """
    try:
        with closing(
            sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        ) as connection:
            connection.row_factory = sqlite3.Row
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous = FULL")
            _prepare(connection, tables)
            yield connection
    except sqlite3.Error as error:
        raise LedgerError(
            f"{path} cannot be used as a ledger: {error}; expected the SQLite file that "
            "segfed made. Check the path and its permissions, or restore it from a backup."
        ) from error


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction; nobody else writes between what is read in it and what is added."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def append(connection: sqlite3.Connection, table: ChainedTable, row: Mapping[str, Any]) -> Row:
    """Add a row to its table's chain, within `writing`; returns it with key and hashes.

    Raises:
        LedgerError: If a number is not finite.
    """
    last = connection.execute(
        f"SELECT hash FROM {table.name} ORDER BY {table.key} DESC LIMIT 1"
    ).fetchone()
    full: Row = {
        **{name: _as_stored(table.columns[name], value) for name, value in row.items()},
        # Not one more than the last row's: a number that was once given out never comes again.
        table.key: _n_ever_written(connection, table) + 1,
        "previous_hash": last[0] if last else GENESIS,
    }
    full["hash"] = hash_of(full, table)
    columns, marks = ", ".join(full), ", ".join("?" * len(full))
    connection.execute(
        f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", tuple(full.values())
    )
    return full


def _as_stored(kind: str, value: Any) -> Any:
    """A value as SQLite gives it back, so that its hash can be recomputed: 28 comes as 28.0."""
    return float(value) if kind.startswith("REAL") and value is not None else value


def hash_of(row: Mapping[str, Any], table: ChainedTable) -> str:
    """Hash of a row's every field but the hash itself.

    Raises:
        LedgerError: If a number is not finite.
    """
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise LedgerError(
                f"Case {row['case_id']}: {name} {value} of its {table.noun} is not finite; "
                "expected a finite number or none at all. Leave out what was not measured."
            )
    absent = {name for name in table.later if row.get(name) is None}
    return sha256_json({k: v for k, v in row.items() if k != "hash" and k not in absent})


def verify(connection: sqlite3.Connection, table: ChainedTable, *, path: Path) -> str:
    """Recompute a table's chain; returns the hash of its last row.

    Raises:
        LedgerError: Naming the first row that was altered or is missing.
    """
    previous, number = GENESIS, 0
    rows = connection.execute(f"SELECT * FROM {table.name} ORDER BY {table.key}")
    for number, found in enumerate(rows, start=1):
        row = dict(found)
        if row[table.key] != number:
            raise damage(path, f"{table.noun} {number} is missing")
        if row["previous_hash"] != previous:
            raise damage(
                path, f"{table.noun} {number} does not follow from the {table.noun} before it"
            )
        if row["hash"] != hash_of(row, table):
            raise damage(path, f"{table.noun} {number} was altered after it was written")
        previous = row["hash"]
    n_ever = _n_ever_written(connection, table)
    if n_ever != number:
        raise damage(path, f"{table.noun} {number + 1} is missing: {n_ever} were written in all")
    return previous


def damage(path: Path, what: str) -> LedgerError:
    """The error for a ledger that is not what segfed wrote."""
    return LedgerError(
        f"{path}: {what}; expected an unbroken chain of unchanged rows and label files. Restore "
        "the ledger and the labels folder from a backup."
    )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; SQLite itself does not wait for another who switches too."""
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
        time.sleep(0.01)


def _n_ever_written(connection: sqlite3.Connection, table: ChainedTable) -> int:
    """Highest number that SQLite gave out; it outlives a deleted last row."""
    row = connection.execute(
        "SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)
    ).fetchone()
    return int(row[0]) if row else 0


def _prepare(connection: sqlite3.Connection, tables: Sequence[ChainedTable]) -> None:
    """Create the tables in a new file, and add to an older file's what it lacks."""
    if _version(connection) == _VERSION:
        return
    with writing(connection):
        found = _version(connection)
        if found > _VERSION:
            raise sqlite3.DatabaseError(
                f"its tables have version {found}, newer than {_VERSION}, which this segfed knows"
            )
        for table in tables:
            _create(connection, table)
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _create(connection: sqlite3.Connection, table: ChainedTable) -> None:
    """One table that can be added to, and neither changed nor shortened."""
    columns = {**table.columns, "previous_hash": "TEXT", "hash": "TEXT"}
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table.name} "
        f"({table.key} INTEGER PRIMARY KEY AUTOINCREMENT, {declared})"
    )
    present = {row["name"] for row in connection.execute(f"PRAGMA table_info({table.name})")}
    for name, kind in columns.items():
        if name not in present:
            connection.execute(f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}")
    if "hash" not in present:
        _chain(connection, table)
    for name in table.indexed:
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS {table.name}_by_{name} ON {table.name} ({name})"
        )
    for trigger, verb in (("stay", "DELETE"), ("last", "UPDATE")):
        connection.execute(
            f"CREATE TRIGGER IF NOT EXISTS {table.name}_{trigger} BEFORE {verb} ON {table.name} "
            f"BEGIN SELECT RAISE(ABORT, '{table.name} are never changed or deleted'); END"
        )


def _chain(connection: sqlite3.Connection, table: ChainedTable) -> None:
    """Give the rows of a table that had no chain their hashes, as they are found."""
    previous = GENESIS
    query = f"SELECT * FROM {table.name} ORDER BY {table.key}"
    for found in connection.execute(query).fetchall():
        row = {**dict(found), "previous_hash": previous}
        previous = hash_of(row, table)
        connection.execute(
            f"UPDATE {table.name} SET previous_hash = ?, hash = ? WHERE {table.key} = ?",
            (row["previous_hash"], previous, row[table.key]),
        )
