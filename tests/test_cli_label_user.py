"""Accounts on the command line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from segfed.cli.label import app
from segfed.errors import ConfigError
from segfed.sites import is_password, load_site, read_accounts, submit_label
from tests.sites_samples import make_label, make_site

PASSWORD = "correct horse battery"


@pytest.fixture
def folder(tmp_path):
    return make_site(tmp_path).folder


def user(*arguments: object, typed: str = ""):
    return CliRunner().invoke(app, ["user", *map(str, arguments)], input=typed)


def test_a_password_is_asked_for_twice_and_not_shown(folder):
    added = user("add", folder, "ann", typed=f"{PASSWORD}\n{PASSWORD}\n")

    assert added.exit_code == 0
    assert "ann may log in at site north as annotator" in added.stdout
    assert PASSWORD not in added.output
    assert is_password(read_accounts(folder)["ann"], PASSWORD)


def test_a_program_gives_the_password_on_standard_input(folder):
    user("add", folder, "bob", "--role", "admin", "--password-stdin", typed=f"{PASSWORD}\n")
    user("password", folder, "bob", "--password-stdin", typed="another long password\n")

    user("role", folder, "bob", "reviewer")

    bob = read_accounts(folder)["bob"]
    assert bob.role == "reviewer"
    assert is_password(bob, "another long password")


def test_accounts_are_listed_without_hashes_and_removed(folder):
    for name in ("ann", "bob"):
        user("add", folder, name, "--password-stdin", typed=f"{PASSWORD}\n")
    user("remove", folder, "ann")

    listed = user("list", folder, "--json")

    assert json.loads(listed.stdout) == [{"name": "bob", "role": "annotator"}]
    assert user("list", folder).stdout.split() == ["name", "role", "bob", "annotator"]


def test_a_name_that_labels_bear_is_another_persons_unless_told_otherwise(folder):
    submit_label(
        load_site(folder), case_id="case0", label=make_label(), origin="manual", reader="ann"
    )

    refused = user("add", folder, "Ann", "--password-stdin", typed=f"{PASSWORD}\n")

    assert isinstance(refused.exception, ConfigError)
    assert "labels by 'Ann' at site north (1)" in str(refused.exception)
    assert read_accounts(folder) == {}
    user("add", folder, "ann", "--same-person", "--password-stdin", typed=f"{PASSWORD}\n")
    assert list(read_accounts(folder)) == ["ann"]


def test_a_password_on_the_command_line_is_not_an_option(folder):
    assert user("add", folder, "ann", "--password", PASSWORD).exit_code == 2
    assert user("add", folder, "ann", PASSWORD).exit_code == 2
    assert read_accounts(folder) == {}
