"""What an officer sees of the messages that left a site."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from segfed.agent import AUDIT_FILE
from segfed.cli import audit
from segfed.errors import ConfigError, LedgerError
from tests.sites_samples import make_site
from tests.test_agent_audit import write


def run(*arguments: object) -> str:
    result = CliRunner().invoke(audit.app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_every_message_that_left_is_listed(tmp_path):
    site = make_site(tmp_path)
    assert "0 messages with 0 bytes left site" in run("show", site.folder)
    write(site.folder / AUDIT_FILE, b"one", b"three")

    shown = run("show", site.folder)
    first, second = json.loads(run("show", site.folder, "--json"))

    assert "2 messages with 8 bytes left site" in shown
    assert first["sha256"][:12] in shown
    assert "approved" in shown  # "no approved study", over two lines of a narrow table
    assert (second["round"], second["kind"], second["bytes"]) == (2, "train", 5)


def test_a_record_of_no_run_is_nothing_to_verify_against(tmp_path):
    site = make_site(tmp_path)
    assert json.loads(run("verify", site.folder, "--json"))["shared"] is None

    with pytest.raises(ConfigError, match="No state of a federated run"):
        run("verify", site.folder, "--against", tmp_path)


def test_an_altered_list_is_not_shown(tmp_path):
    site = make_site(tmp_path)
    write(site.folder / AUDIT_FILE, b"one", b"three")
    lines = (site.folder / AUDIT_FILE).read_text().splitlines(keepends=True)
    (site.folder / AUDIT_FILE).write_text(lines[1])

    with pytest.raises(LedgerError, match=r"line 1 .* does not continue the chain"):
        run("show", site.folder)
