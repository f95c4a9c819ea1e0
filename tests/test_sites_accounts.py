"""Accounts of a site's label server."""

from __future__ import annotations

import pytest

from segfed.errors import ConfigError
from segfed.sites.accounts import (
    ACCOUNTS_FILE,
    KEY_FILE,
    add_account,
    is_password,
    may_act_as,
    read_accounts,
    remove_account,
    set_password,
    set_role,
    signing_key,
)

PASSWORD = "correct horse battery"


@pytest.fixture
def folder(tmp_path):
    add_account(tmp_path, name="ann", role="annotator", password=PASSWORD)
    return tmp_path


def test_only_the_right_password_of_an_account_that_exists_is_accepted(folder):
    ann = read_accounts(folder)["ann"]

    assert is_password(ann, PASSWORD)
    assert not is_password(ann, PASSWORD + "x")
    assert not is_password(None, PASSWORD)


def test_the_same_letters_composed_differently_are_the_same_password(folder):
    # An e with an acute accent: one code point, or a letter and its accent.
    add_account(folder, name="eve", role="admin", password="caf\u00e9 caf\u00e9 caf\u00e9")

    assert is_password(read_accounts(folder)["eve"], "cafe\u0301 cafe\u0301 cafe\u0301")


def test_the_files_hold_no_password_and_only_their_owner_reads_them(folder):
    signing_key(folder)

    assert PASSWORD not in (folder / ACCOUNTS_FILE).read_text()
    assert "argon2id" not in repr(read_accounts(folder)["ann"])
    for name in (ACCOUNTS_FILE, KEY_FILE):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_a_file_that_others_can_read_is_refused(folder):
    (folder / ACCOUNTS_FILE).chmod(0o644)

    with pytest.raises(ConfigError, match=r"mode 644.*expected 600.*chmod 600"):
        read_accounts(folder)


@pytest.mark.parametrize("name", ["../ann", "", "a b", "ann\n", "x" * 61, ".ann", "ANN", "ann"])
def test_names_that_are_unsafe_or_taken_are_refused(folder, name):
    with pytest.raises(ConfigError, match=r"name|already has an account 'ann'"):
        add_account(folder, name=name, role="annotator", password=PASSWORD)

    assert list(read_accounts(folder)) == ["ann"]


def test_short_and_endless_passwords_are_refused(folder):
    for password in ("x" * 11, "x" * 257):
        with pytest.raises(ConfigError, match="expected 12 to 256"):
            set_password(folder, name="ann", password=password)


def test_another_role_leaves_the_login_as_it_is(folder):
    before = read_accounts(folder)["ann"]

    set_role(folder, name="ann", role="reviewer")

    assert read_accounts(folder)["ann"] == before.model_copy(update={"role": "reviewer"})
    with pytest.raises(ConfigError, match="no account 'bob'"):
        set_role(folder, name="bob", role="admin")


def test_each_role_may_do_what_those_before_it_may():
    assert may_act_as("reviewer", "annotator")
    assert may_act_as("reviewer", "reviewer")
    assert not may_act_as("reviewer", "admin")


def test_a_new_password_replaces_the_old_one_and_changes_the_stamp(folder):
    before = read_accounts(folder)["ann"]
    set_password(folder, name="ann", password="another long password")
    after = read_accounts(folder)["ann"]

    assert (after.name, after.role) == (before.name, before.role)
    assert is_password(after, "another long password")
    assert not is_password(after, PASSWORD)
    assert after.stamp != before.stamp


def test_a_removed_account_is_gone(folder):
    remove_account(folder, "ann")

    assert read_accounts(folder) == {}
    with pytest.raises(ConfigError, match="no account 'ann'"):
        remove_account(folder, "ann")


def test_a_damaged_file_is_refused_in_words(folder):
    (folder / ACCOUNTS_FILE).write_text('{"accounts": [')

    with pytest.raises(ConfigError, match="not valid JSON"):
        read_accounts(folder)


def test_the_key_is_made_once(folder):
    assert signing_key(folder) == signing_key(folder)
    assert len(signing_key(folder)) == 32
