"""Tables that only grow."""

from __future__ import annotations

import pytest

from segfed.errors import LedgerError
from segfed.sites.chain import ChainedTable, append, connect, verify, writing

TABLE = ChainedTable(
    name="notes", key="note_id", noun="note", columns={"case_id": "TEXT", "mm": "REAL"}
)
OTHER = ChainedTable(name="marks", key="mark_id", noun="mark", columns={"case_id": "TEXT"})


def add(path, *values: float) -> None:
    """Add rows in one transaction."""
    with connect(path, [TABLE, OTHER]) as connection, writing(connection):
        for value in values:
            append(connection, TABLE, {"case_id": "case0", "mm": value})


def end(path, table=TABLE) -> str:
    with connect(path, [TABLE, OTHER]) as connection:
        return verify(connection, table, path=path)


def test_chains_of_one_file_are_apart(tmp_path):
    path = tmp_path / "ledger.sqlite"
    add(path, 1.0, 2.5)

    assert end(path) != end(path, OTHER) == "0" * 64


def test_a_transaction_that_fails_leaves_nothing(tmp_path):
    path = tmp_path / "ledger.sqlite"
    add(path, 1.0)
    before = end(path)

    with pytest.raises(LedgerError, match=r"Case case0: mm inf of its note is not finite"):
        add(path, 2.0, float("inf"))

    assert end(path) == before
    add(path, 2.0)
    assert end(path) != before, "and the chain goes on"


def test_a_whole_number_is_hashed_as_it_is_stored(tmp_path):
    path = tmp_path / "ledger.sqlite"
    add(path, 28)  # comes back as 28.0, which JSON writes otherwise

    assert end(path) != "0" * 64


def test_a_file_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    add(path, 1.0)
    with connect(path, [TABLE, OTHER]) as connection:
        connection.execute("PRAGMA user_version = 3")

    with pytest.raises(LedgerError, match="its tables have version 3, newer than 2"):
        add(path, 2.0)
