"""The ledger: nothing is lost, and nothing can be changed unnoticed."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from segfed.errors import LedgerError
from segfed.files import sha256_bytes, sha256_json
from segfed.sites import Ledger
from tests.sites_samples import NOON, new_label

LABEL = sha256_bytes(b"label")

WRITER = """
import sys
from pathlib import Path
from segfed.sites import Ledger
from tests.sites_samples import new_label
ledger = Ledger(Path(sys.argv[1]))
while True:
    print(ledger.append(new_label(sys.argv[2])).record_id, flush=True)
"""


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{LABEL}.nii.gz").write_bytes(b"label")
    return Ledger(tmp_path / "ledger.sqlite")


def tamper(ledger: Ledger, statement: str) -> None:
    """Change the file behind the ledger's back."""
    with contextlib.closing(sqlite3.connect(ledger.path)) as connection, connection:
        connection.executescript("DROP TRIGGER records_stay; DROP TRIGGER records_last;")
        connection.execute(statement)


def append_many(path, reader: str, start) -> None:
    start.wait(60)
    for _ in range(50):
        Ledger(path).append(new_label(LABEL, reader=reader))


def test_a_record_comes_back_as_it_was_written(ledger):
    paris = timezone(timedelta(hours=1))
    new = new_label(
        LABEL,
        origin="ai_corrected",
        arm="assisted",
        opened_at=datetime(2026, 3, 1, 12, 30, tzinfo=paris),
        active_seconds=12,
        changed_fraction=0.1,
        model_sha256="2" * 64,
    )

    record = ledger.append(new)

    assert ledger.records("case0") == (record,)
    assert record.opened_at == NOON - timedelta(minutes=30)
    assert (record.active_seconds, record.changed_fraction) == (12.0, 0.1)
    ledger.verify()


def test_each_hash_covers_the_record_and_the_hash_before_it(ledger):
    first, second = ledger.append(new_label(LABEL)), ledger.append(new_label(LABEL))

    assert first.previous_hash == "0" * 64
    assert second.previous_hash == first.hash
    # An independent reckoning from the file's own columns
    with contextlib.closing(sqlite3.connect(ledger.path)) as connection:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM records WHERE record_id = 2").fetchone())
    assert row.pop("hash") == second.hash == sha256_json(row)


def test_a_label_supersedes_the_readers_earlier_one_of_the_same_arm_only(ledger):
    first = ledger.append(new_label(LABEL))
    other_reader = ledger.append(new_label(LABEL, reader="bob"))
    other_arm = ledger.append(new_label(LABEL, arm="assisted", origin="ai_accepted"))
    again = ledger.append(new_label(LABEL))

    assert [r.supersedes for r in (first, other_reader, other_arm, again)] == [None, None, None, 1]
    assert ledger.current("case0", "manual") == again
    assert ledger.current("case0", "manual", "bob") == other_reader
    assert ledger.current("case0", "assisted") == other_arm
    assert ledger.current("case1", "manual") is None


@pytest.mark.parametrize("status", ["flagged", "rejected"])
def test_a_label_that_does_not_count_withdraws_the_one_that_it_supersedes(ledger, status):
    ledger.append(new_label(LABEL))
    ledger.append(new_label(LABEL, status=status))

    assert ledger.current("case0", "manual") is None

    approved = ledger.append(new_label(LABEL, status="approved"))
    assert ledger.current("case0", "manual") == approved


def test_the_last_assignment_counts_and_the_earlier_ones_stay(ledger):
    first = ledger.assign("ann", "case0", "manual", at=NOON)
    second = ledger.assign("ann", "case0", "assisted", at=NOON)

    assert (first.assignment_id, second.assignment_id) == (1, 2)
    assert ledger.assignment("ann", "case0") == second
    assert ledger.assignment("bob", "case0") is None


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE records SET reader = 'eve' WHERE record_id = 2", "record 2 was altered"),
        ("UPDATE records SET active_seconds = 1 WHERE record_id = 1", "record 1 was altered"),
        ("DELETE FROM records WHERE record_id = 1", "record 1 is missing"),
        ("DELETE FROM records WHERE record_id = 2", "record 2 is missing"),
        ("DELETE FROM records WHERE record_id = 3", "record 3 is missing: 3 were written in all"),
        ("DELETE FROM records", "record 1 is missing: 3 were written in all"),
    ],
)
def test_an_altered_or_deleted_record_is_found(ledger, statement, message):
    for _ in range(3):
        ledger.append(new_label(LABEL))
    ledger.verify()

    tamper(ledger, statement)

    with pytest.raises(LedgerError, match=message):
        ledger.verify()


def test_a_forged_record_with_a_fitting_hash_breaks_the_chain_at_the_next(ledger):
    for _ in range(2):
        ledger.append(new_label(LABEL))
    with contextlib.closing(sqlite3.connect(ledger.path)) as connection:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM records WHERE record_id = 1").fetchone())
    del row["hash"]
    forged = sha256_json(row | {"reader": "eve"})
    tamper(ledger, f"UPDATE records SET reader = 'eve', hash = '{forged}' WHERE record_id = 1")

    with pytest.raises(LedgerError, match="record 2 does not follow from the record before it"):
        ledger.verify()


def test_an_altered_and_a_missing_label_file_are_found(ledger):
    ledger.append(new_label(LABEL))
    path = ledger.label_path(LABEL)

    path.write_bytes(b"another label")
    with pytest.raises(LedgerError, match=rf"record 1 \(case case0\).*{LABEL}.*has hash"):
        ledger.verify()
    path.unlink()
    with pytest.raises(LedgerError, match=rf"record 1.*{LABEL}.*missing"):
        ledger.verify()


def test_a_missing_proposal_is_found(ledger):
    ledger.append(new_label(LABEL, proposal_sha256="3" * 64))

    with pytest.raises(LedgerError, match=r"record 1.*3333.*missing"):
        ledger.verify()


@pytest.mark.parametrize(
    "statement", ["UPDATE records SET status = 'approved'", "DELETE FROM records"]
)
def test_the_file_itself_refuses_changes(ledger, statement):
    ledger.append(new_label(LABEL))

    with (
        contextlib.closing(sqlite3.connect(ledger.path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="never"),
    ):
        connection.execute(statement)


def test_what_cannot_be_recorded_is_explained(ledger):
    with pytest.raises(LedgerError, match=r"submitted_at .* no time zone"):
        ledger.append(new_label(LABEL, submitted_at=datetime(2026, 3, 1)))
    with pytest.raises(LedgerError, match=r"Case case0.*changed_fraction nan"):
        ledger.append(new_label(LABEL, changed_fraction=math.nan))
    assert ledger.records() == ()


def test_a_file_that_is_no_ledger_is_explained(tmp_path):
    (tmp_path / "ledger.sqlite").write_text("not a database, but long enough to be read as one")

    with pytest.raises(LedgerError, match="cannot be used as a ledger: file is not a database"):
        Ledger(tmp_path / "ledger.sqlite")


@pytest.mark.usefixtures("ledger")  # for the label file
def test_two_processes_that_create_and_fill_a_ledger_share_one_chain(tmp_path):
    path = tmp_path / "another.sqlite"
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(2)
    workers = [fork.Process(target=append_many, args=(path, name, start)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    readers = [record.reader for record in Ledger(path).records()]
    assert (readers.count("a"), readers.count("b")) == (50, 50)
    assert [worker.exitcode for worker in workers] == [0, 0]
    Ledger(path).verify()


def test_what_was_appended_survives_a_kill(ledger):
    command = [sys.executable, "-c", WRITER, str(ledger.path), LABEL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = [int(writer.stdout.readline()) for _ in range(40)]
        os.kill(writer.pid, signal.SIGKILL)

    assert acknowledged == list(range(1, 41))
    assert len(ledger.records()) >= 40
    ledger.verify()
    ledger.append(new_label(LABEL))
    ledger.verify()
