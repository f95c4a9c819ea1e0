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
from datetime import UTC, datetime, timedelta, timezone

import pytest

from segfed.errors import LedgerError
from segfed.files import sha256_bytes, sha256_json
from segfed.sites import Ledger, NewAssignment, ReadingEvent
from tests.sites_samples import NOON, new_label

LABEL = sha256_bytes(b"label")

WRITER = """
import sys
from pathlib import Path
from segfed.sites import Ledger, NewAssignment, ReadingEvent
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
        for table in ("records", "assignments", "reading_events"):
            connection.execute(f"DROP TRIGGER {table}_stay")
            connection.execute(f"DROP TRIGGER {table}_last")
        connection.execute(statement)


def test_a_ledger_knows_whether_anybody_was_assigned_a_case(ledger):
    assert not ledger.has_assignments()
    ledger.assign("ann", "case0", "manual")
    assert ledger.has_assignments()


def test_of_each_case_a_readers_newest_label_says_how_it_stands(ledger):
    for case_id, reader, status in (
        ("case0", "ann", "submitted"),
        ("case0", "ann", "rejected"),
        ("case0", "bob", "approved"),
        ("case1", "ann", "submitted"),
    ):
        ledger.append(new_label(LABEL, case_id=case_id, reader=reader, status=status))

    assert ledger.newest_statuses("ann") == {"case0": "rejected", "case1": "submitted"}
    assert ledger.newest_statuses("eve") == {}


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
    # (an empty review is left out, so that ledgers from before there were reviews stay whole)
    assert (row.pop("reviewed_by"), row.pop("reviewed_at")) == (None, None)
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
    assert ledger.assignments() == (first, second)
    assert ledger.assignment("ann", "case0") == second
    assert ledger.assignment("bob", "case0") is None


def test_a_second_reader_never_takes_the_place_of_the_one_assigned_first(ledger):
    for reader in ("bob", "ann"):
        ledger.assign(reader, "case0", "manual")
    unassigned = ledger.append(new_label(LABEL, reader="import"))
    assert ledger.current("case0", "manual") == unassigned

    anns = ledger.append(new_label(LABEL, reader="ann", assignment=2))
    assert ledger.current("case0", "manual") == anns, "bob has no label yet"
    bobs = ledger.append(new_label(LABEL, reader="bob", assignment=1))
    ledger.append(new_label(LABEL, reader="ann", assignment=2))
    assert ledger.current("case0", "manual") == bobs

    ledger.append(new_label(LABEL, reader="bob", assignment=1, status="rejected"))
    assert ledger.current("case0", "manual").reader == "ann"


def test_assignments_that_were_planned_before_somebody_elses_are_refused_whole(ledger):
    planned = [NewAssignment("ann", "case0", "manual"), NewAssignment("ann", "case1", "assisted")]
    ledger.assign("bob", "case0", "manual")

    with pytest.raises(LedgerError, match="1 assignments, expected 0"):
        ledger.assign_all(planned, after=0)

    assert len(ledger.assignments()) == 1


def test_events_come_back_in_order_to_their_reader_and_case_only(ledger):
    opened = ReadingEvent(NOON.astimezone(timezone(timedelta(hours=2))), "opened")
    proposed = ReadingEvent(NOON, "proposed", "p" * 64, "m" * 64)
    ledger.note("ann", "case0", opened)
    ledger.note("ann", "case0", proposed)
    ledger.note("bob", "case0", opened)
    ledger.note("ann", "case1", opened)

    events = Ledger(ledger.path).events("ann", "case0")

    assert events == (ReadingEvent(NOON, "opened"), proposed)
    assert events[0].at.tzinfo == UTC


def test_a_case_is_leased_from_its_opening_to_its_submission(ledger):
    ledger.note("bob", "case0", ReadingEvent(NOON, "opened"))
    before, after = NOON - timedelta(hours=8), NOON + timedelta(seconds=1)

    assert ledger.leased("ann", since=before) == {"case0"}
    assert ledger.leased("bob", since=before) == set(), "one's own case is not taken"
    assert ledger.leased("ann", since=after) == set(), "a lease ends by itself"
    assert ledger.left_open("bob", since=before) == {"case0"}
    assert ledger.left_open("ann", since=before) == set(), "another's case"
    ledger.append(new_label(LABEL, reader="carol", submitted_at=after))
    assert ledger.leased("ann", since=before) == {"case0"}, "bob has not submitted"
    ledger.append(new_label(LABEL, reader="bob", submitted_at=after))
    assert ledger.leased("ann", since=before) == set()
    assert ledger.left_open("bob", since=before) == set()
    ledger.note("bob", "case0", ReadingEvent(NOON + timedelta(seconds=2), "opened"))
    assert ledger.leased("ann", since=before) == {"case0"}, "opened again"


def test_a_record_that_should_replace_another_than_the_newest_is_refused(ledger):
    first, _ = ledger.append(new_label(LABEL)), ledger.append(new_label(LABEL))

    with pytest.raises(LedgerError, match="record 2 came in after record 1"):
        ledger.append(new_label(LABEL, status="approved"), replacing=first.record_id)

    assert ledger.append(new_label(LABEL), replacing=2).supersedes == 2


def filled(ledger) -> None:
    """Two rows in every chain, each of whose fields holds a value of its own."""
    for minute, reader in enumerate(("ann", "bob")):
        at = NOON + timedelta(minutes=minute)
        assignment = ledger.assign(reader, "case0", "assisted", at=at)
        ledger.note(reader, "case0", ReadingEvent(at, "proposed", LABEL, "4" * 64))
        ledger.append(
            new_label(
                LABEL,
                reader=reader,
                arm="assisted",
                origin="ai_corrected",
                assignment=assignment.assignment_id,
                proposal_sha256=LABEL,
                model_sha256="4" * 64,
                opened_at=at,
                active_seconds=10.5 + minute,
                changed_fraction=0.25 + minute / 8,
                status="approved",
                reviewed_by="rita",
                reviewed_at=at,
            )
        )


@pytest.mark.parametrize(
    ("table", "n_columns"), [("records", 20), ("assignments", 10), ("reading_events", 9)]
)
def test_a_change_of_any_field_of_any_row_is_found(ledger, table, n_columns):
    filled(ledger)
    ledger.verify()
    content = ledger.path.read_bytes()
    with contextlib.closing(sqlite3.connect(ledger.path)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    assert len(columns) == n_columns

    for column in columns:
        for row in (1, 2):
            for value in ("'x'", "7"):
                with contextlib.suppress(sqlite3.IntegrityError):
                    tamper(ledger, f"UPDATE {table} SET {column} = {value} WHERE rowid = {row}")
                    with pytest.raises(LedgerError):
                        ledger.verify()
                ledger.path.write_bytes(content)
    ledger.verify()


def test_a_flipped_bit_of_any_byte_of_a_stored_row_is_found(ledger):
    filled(ledger)
    with contextlib.closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        row = connection.execute("SELECT * FROM records WHERE record_id = 1").fetchone()
    content = ledger.path.read_bytes()
    # The row's text fields lie in the file one after the other, from the case to the hash.
    start = content.index(f"{row[1]}{row[2]}{row[3]}".encode())
    end = content.index(row[-1].encode(), start) + 64
    assert end - start > 400

    for place in range(start, end):
        ledger.path.write_bytes(
            content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        )
        with pytest.raises(LedgerError):
            ledger.verify()


@pytest.mark.parametrize("table", ["records", "assignments", "reading_events"])
@pytest.mark.parametrize("row", [1, 2])
def test_a_row_removed_from_any_chain_is_found_even_after_more_were_added(ledger, table, row):
    filled(ledger)
    tamper(ledger, f"DELETE FROM {table} WHERE rowid = {row}")

    with pytest.raises(LedgerError, match=f" {row} is missing"):
        ledger.verify()
    filled(ledger)
    with pytest.raises(LedgerError, match=f" {row} is missing"):
        ledger.verify()


def test_a_record_of_somebody_elses_assignment_is_found(ledger):
    ledger.assign("bob", "case0", "manual")
    ledger.append(new_label(LABEL, assignment=1))

    with pytest.raises(LedgerError, match="record 1 names assignment 1, which is not one of"):
        ledger.verify()


def test_the_ends_of_the_chains_are_their_last_hashes(ledger):
    empty = ledger.verify()
    record = ledger.append(new_label(LABEL))

    assert (empty.records, empty.assignments) == ("0" * 64, "0" * 64)
    assert ledger.verify().records == record.hash


def test_a_ledger_from_before_assignments_were_chained_is_taken_over(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            """
            CREATE TABLE records (
                record_id INTEGER PRIMARY KEY AUTOINCREMENT,
                case_id TEXT NOT NULL, image_sha256 TEXT NOT NULL, label_sha256 TEXT NOT NULL,
                origin TEXT NOT NULL, assignment INTEGER, arm TEXT NOT NULL, reader TEXT NOT NULL,
                proposal_sha256 TEXT, model_sha256 TEXT, opened_at TEXT,
                submitted_at TEXT NOT NULL, active_seconds REAL, changed_fraction REAL,
                supersedes INTEGER, status TEXT NOT NULL, previous_hash TEXT NOT NULL,
                hash TEXT NOT NULL UNIQUE
            );
            CREATE TABLE assignments (
                assignment_id INTEGER PRIMARY KEY AUTOINCREMENT, reader TEXT NOT NULL,
                case_id TEXT NOT NULL, arm TEXT NOT NULL, assigned_at TEXT NOT NULL
            );
            INSERT INTO assignments (reader, case_id, arm, assigned_at)
                VALUES ('ann', 'case0', 'assisted', '2026-03-01T12:00:00+00:00');
            """
        )
        row = {
            "record_id": 1, "case_id": "case0", "image_sha256": "1" * 64, "label_sha256": LABEL,
            "origin": "ai_accepted", "assignment": 1, "arm": "assisted", "reader": "ann",
            "proposal_sha256": None, "model_sha256": None, "opened_at": None,
            "submitted_at": "2026-03-01T12:00:00+00:00", "active_seconds": None,
            "changed_fraction": None, "supersedes": None, "status": "submitted",
            "previous_hash": "0" * 64,
        }  # fmt: skip
        row["hash"] = sha256_json(row)
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO records VALUES ({marks})", tuple(row.values()))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{LABEL}.nii.gz").write_bytes(b"label")

    ledger = Ledger(path)

    assert ledger.verify().records == row["hash"]
    assert (ledger.assignments()[0].arm, ledger.assignments()[0].period) == ("assisted", 1)
    assert ledger.append(new_label(LABEL)).previous_hash == row["hash"]
    tamper(ledger, "UPDATE assignments SET reader = 'eve'")
    with pytest.raises(LedgerError, match="assignment 1 was altered"):
        ledger.verify()


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
    for name in ("hash", "reviewed_by", "reviewed_at"):
        del row[name]
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
