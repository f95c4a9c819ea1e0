"""Temporary folders of servers that run, and of those that were killed."""

from __future__ import annotations

import subprocess

from segfed.cli.server_folder import temporary_folder


def folders(parent):
    return sorted(path for path in parent.iterdir() if path.is_dir())


def test_what_a_killed_server_left_is_removed_at_the_next_start(tmp_path):
    (tmp_path / ".server-killed").mkdir()
    (tmp_path / ".server-killed" / "upload.nii.gz").write_bytes(b"x")
    (tmp_path / "logs").mkdir()

    with temporary_folder(tmp_path) as (folder, _):
        assert folders(tmp_path) == [folder, tmp_path / "logs"]
    assert folders(tmp_path) == [tmp_path / "logs"]


def test_the_folder_of_a_running_server_stays(tmp_path):
    with (
        temporary_folder(tmp_path) as (first, _),
        temporary_folder(tmp_path) as (second, _),
    ):
        assert folders(tmp_path) == sorted([first, second])


def test_a_folder_is_in_use_until_the_server_that_inherits_its_lock_ends(tmp_path):
    folder = tmp_path / ".server-orphan"
    with temporary_folder(tmp_path) as (made, lock):
        made.rename(folder)  # so that it stays, as after its parent was killed
        server = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock,))
        made.mkdir()

    with temporary_folder(tmp_path):
        assert folder.exists()
    server.communicate(b"")
    with temporary_folder(tmp_path):
        assert not folder.exists()
