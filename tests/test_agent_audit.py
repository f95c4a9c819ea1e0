"""The chain of outgoing messages."""

from __future__ import annotations

import hashlib
import json

import pytest

from segfed.agent.audit import append_entry, read_audit
from segfed.errors import LedgerError
from tests.agent_samples import NOON


def write(path, *contents):
    for number, content in enumerate(contents, start=1):
        append_entry(
            path,
            time=NOON,
            manifest_sha256="f" * 64,
            round_number=number,
            kind="train",
            content=content,
        )


def test_a_line_says_what_left_and_when(tmp_path):
    path = tmp_path / "audit.jsonl"

    write(path, b"one", b"three")

    first, second = read_audit(path)
    assert (first.time, first.round, first.kind, first.bytes) == (NOON, 1, "train", 3)
    assert first.sha256 == hashlib.sha256(b"one").hexdigest()
    assert first.previous_hash == "0" * 64
    assert second.previous_hash == first.hash


def test_anybody_can_recompute_a_hash_from_the_line(tmp_path):
    path = tmp_path / "audit.jsonl"
    write(path, b"one")

    line = json.loads(path.read_text())

    stated = line.pop("hash")
    canonical = json.dumps(line, sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.sha256(canonical).hexdigest() == stated


def test_lines_of_a_version_without_recipients_are_still_whole(tmp_path):
    path, line = tmp_path / "audit.jsonl", {"time": "2026-03-01T12:00:00Z", "round": 1, "bytes": 3}
    line |= {"manifest_sha256": "f" * 64, "kind": "train", "sha256": "e" * 64}
    line["previous_hash"] = "0" * 64
    canonical = json.dumps(line, sort_keys=True, separators=(",", ":")).encode()
    path.write_text(json.dumps(line | {"hash": hashlib.sha256(canonical).hexdigest()}) + "\n")

    write(path, b"two")

    assert [entry.recipient for entry in read_audit(path)] == [None, None]


def test_an_absent_log_means_that_nothing_left(tmp_path):
    assert read_audit(tmp_path / "audit.jsonl") == ()


@pytest.mark.parametrize(
    "tamper",
    [
        lambda lines: [lines[0].replace('"round":1', '"round":9'), *lines[1:]],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: ["nonsense", *lines[1:]],
    ],
    ids=["altered", "removed", "swapped", "inserted", "damaged"],
)
def test_a_changed_log_is_found(tmp_path, tamper):
    path = tmp_path / "audit.jsonl"
    write(path, b"one", b"two", b"three")
    path.write_text("".join(f"{line}\n" for line in tamper(path.read_text().splitlines())))

    with pytest.raises(LedgerError, match="backup"):
        read_audit(path)


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path):
    path = tmp_path / "audit.jsonl"
    write(path, b"one")
    with path.open("ab") as log:
        log.write(b'{"time":"2026-')

    write(path, b"two")

    assert [entry.bytes for entry in read_audit(path)] == [3, 3]


def test_nothing_is_added_behind_a_damaged_line(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text("nonsense\n")

    with pytest.raises(LedgerError, match="no record of a message"):
        write(path, b"one")

    assert path.read_text() == "nonsense\n"
