"""Files that appear whole or not at all, what is left of those that did not, and locks."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import pytest

from segfed.files import locked, remove_leftovers, replacing, write_private


def test_a_block_that_raises_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    path = tmp_path / "label.nii.gz"
    path.write_text("good")

    with suppress(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError

    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_nobody_can_be_writing_any_more_is_removed(tmp_path):
    whole = tmp_path / "label.nii.gz"
    with replacing(whole) as temporary:
        temporary.write_text("whole")
    for name in (".partial-old", ".partial-new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "label.nii.gz").write_text("half")
    two_hours_ago = time.time() - 7200
    for path in (tmp_path / ".partial-old", whole):
        os.utime(path, (two_hours_ago, two_hours_ago))

    remove_leftovers(tmp_path, older_than_seconds=3600)
    remove_leftovers(tmp_path / "nowhere", older_than_seconds=0)

    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-new", "label.nii.gz"]


def test_a_private_file_is_its_owners_alone(tmp_path):
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)

    write_private(path, b"secret")

    assert path.read_bytes() == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path):
    lock = tmp_path / "lock"

    with (
        locked(lock),
        pytest.raises(ValueError, match="taken"),
        locked(lock, otherwise=ValueError("taken")),
    ):
        pass

    with locked(lock, otherwise=ValueError("taken")):
        pass
