"""What a site and the server sign of a shared history, and what that shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from typer.testing import CliRunner

from segfed.agent import AUDIT_FILE, read_audit
from segfed.agent.audit import append_entry
from segfed.agent.statements import (
    compare_statements,
    read_statement,
    server_statement,
    sign_statement,
    site_statement,
)
from segfed.cli import audit
from segfed.cli.certificates import make_node_keys
from segfed.errors import ConfigError, LedgerError
from segfed.protocol import FederationState, RoundRecord, record_heads
from tests.sites_samples import make_site

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
STUDY, OTHER = "5" * 64, "6" * 64


def say(log, *, round_number, study=STUDY, server_head=None, content=b"weights"):
    """A message of the site; returns its head."""
    return append_entry(
        log, time=NOW, manifest_sha256=study, round_number=round_number, kind="train",
        content=content, server_head=server_head,
    )  # fmt: skip


def write_record(folder, records):
    folder.mkdir(exist_ok=True)
    lines = [record.model_dump_json() + "\n" for record in records]
    (folder / "metrics.jsonl").write_text("".join(lines))
    state = FederationState(
        manifest_sha256=STUDY, rounds_done=len(records), best_round=1, finished=True
    )
    (folder / "state.json").write_text(state.model_dump_json())


@pytest.fixture
def history(tmp_path):
    """A site's folder and the server's after three rounds; the site works for others, too."""
    site = make_site(tmp_path)
    records = []
    for number in (1, 2, 3):
        say(site.folder / AUDIT_FILE, round_number=number, study=OTHER)
        before = record_heads(records)[-1]
        head = say(site.folder / AUDIT_FILE, round_number=number, server_head=before)
        records.append(
            RoundRecord(
                round=number, loss=0.5, validation_dice=None, sites={}, seconds=1.0,
                audit_heads={site.name: head, "elsewhere": "e" * 64},
            )
        )  # fmt: skip
    write_record(tmp_path / "run", records)
    return site, tmp_path / "run"


def of_site(site):
    entries = read_audit(site.folder / AUDIT_FILE)
    return site_statement(entries, site=site.name, manifest_sha256=STUDY[:8], now=NOW)


def pem(key, path):
    """An Ed25519 pair as an owner makes it; returns both paths."""
    private, public = path.with_suffix(".key"), path.with_suffix(".pub")
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_both_sides_state_the_same_rounds_and_a_site_nothing_of_its_other_studies(history):
    site, run_folder = history
    stated = of_site(site)

    assert compare_statements(stated, server_statement(run_folder, now=NOW)) == 3
    assert len(stated.heads) == 3
    # An older statement of either side says nothing of later rounds.
    assert compare_statements(stated.model_copy(update={"heads": stated.heads[:2]}),
                              server_statement(run_folder, now=NOW)) == 2  # fmt: skip


def test_a_site_that_leaves_a_message_out_contradicts_the_server(history):
    site, run_folder = history
    stated = of_site(site)
    without = stated.model_copy(update={"heads": (stated.heads[0], stated.heads[2])})

    with pytest.raises(LedgerError, match="the site lacks the message of round 2"):
        compare_statements(without, server_statement(run_folder, now=NOW))


def test_a_server_that_rewrites_a_round_contradicts_the_site(history):
    site, run_folder = history
    path = run_folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"loss": 0.1})
    path.write_text("\n".join(lines) + "\n")

    with pytest.raises(LedgerError, match=r"before round 2 had the head .* before round 3 had"):
        compare_statements(server_statement(run_folder, now=NOW), of_site(site))


def test_only_a_site_and_the_server_of_one_study_compare(history):
    site, run_folder = history
    stated, server = of_site(site), server_statement(run_folder, now=NOW)

    with pytest.raises(LedgerError, match="expected one of a site and one of the server"):
        compare_statements(stated, stated)
    renamed = tuple(h.model_copy(update={"site": "new"}) for h in stated.heads)
    with pytest.raises(LedgerError, match="site new share no round"):
        compare_statements(server, stated.model_copy(update={"heads": renamed}))
    with pytest.raises(LedgerError, match="share no round"):
        compare_statements(server, stated.model_copy(update={"heads": ()}))
    with pytest.raises(LedgerError, match="messages of 2 studies whose manifest begins with"):
        site_statement(read_audit(site.folder / AUDIT_FILE), site="a", manifest_sha256="", now=NOW)


def test_each_side_checks_what_the_other_signed_from_the_command_line(history, tmp_path):
    site, run_folder = history
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")
    owner, owner_public = pem(Ed25519PrivateKey.generate(), tmp_path / "owner")

    def command(*arguments):
        result = CliRunner().invoke(audit.app, [str(argument) for argument in arguments])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    by_site, by_server = tmp_path / "site.json", tmp_path / "server.json"
    command("sign", site.folder, "--study", "555", "--key", tmp_path / "node.key", "--out", by_site)
    command("sign", run_folder, "--key", owner, "--out", by_server)

    assert "3 rounds" in command("compare", run_folder, by_site, "--key", tmp_path / "node.pub")
    assert "3 rounds" in command("compare", site.folder, by_server, "--key", owner_public)
    with pytest.raises(LedgerError, match="not signed by the owner"):
        command("compare", run_folder, by_site, "--key", owner_public)


def test_a_statement_that_was_changed_is_nobodys(history, tmp_path):
    site, _ = history
    private, public = pem(Ed25519PrivateKey.generate(), tmp_path / "owner")
    signed = sign_statement(of_site(site), private)
    path = tmp_path / "statement.json"
    path.write_text(signed.model_dump_json())
    assert read_statement(path, public) == signed.statement

    path.write_text(signed.model_dump_json().replace('"round":2', '"round":1'))

    with pytest.raises(LedgerError, match="not signed by the owner"):
        read_statement(path, public)


def test_other_keys_and_files_are_refused(history, tmp_path):
    site, run_folder = history
    private, public = pem(X25519PrivateKey.generate(), tmp_path / "other")
    good, _ = pem(Ed25519PrivateKey.generate(), tmp_path / "owner")
    path = tmp_path / "statement.json"
    path.write_text(sign_statement(of_site(site), good).model_dump_json())

    for key in (private, public, tmp_path / "gone"):
        with pytest.raises(ConfigError, match="expected a site's node key or a study owner's"):
            sign_statement(of_site(site), key)
        with pytest.raises(ConfigError, match="expected a site's node key or a study owner's"):
            read_statement(path, key)
    (run_folder / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"metrics\.jsonl cannot be read"):
        server_statement(run_folder, now=NOW)
