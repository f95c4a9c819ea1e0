"""Whether a site and the server can show that they hold one history."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from federation.simulation import run_federation
from segfed.agent import AUDIT_FILE, Agent, read_audit, shared_history
from segfed.agent.audit import append_entry
from segfed.cli import audit
from segfed.errors import ConfigError, LedgerError
from segfed.files import write_bytes
from segfed.protocol import RoundRecord, record_heads
from tests.agent_samples import bean_manifest, labelled_site, start_weights

MASKED = {"secure_aggregation": True, "threshold": 2, "clip_norm": 5.0}


def federate(folder, *, rounds=2, **changes):
    """Two sites that trained together; returns the first site, and the run's folder."""
    manifest = bean_manifest(folder, rounds=rounds, steps_per_round=1, **changes)
    sites = [labelled_site(folder, name=name) for name in ("north", "west")]
    write_bytes(folder / "start.safetensors", start_weights(manifest))
    agents = {site.name: Agent(site, manifest, device=torch.device("cpu")) for site in sites}
    run_federation(
        manifest,
        agents=agents,
        initial_weights=folder / "start.safetensors",
        out=folder / "run",
        on_round=lambda _record: None,
    )
    return sites[0], folder / "run"


def check(site, run_folder):
    entries = read_audit(site.folder / AUDIT_FILE)
    return shared_history(entries, site=site.name, run_folder=run_folder)


def rewrite(path, *, leave_out):
    """Forge a log whose own chain is whole: as somebody would who wants a message forgotten."""
    entries = [entry for n, entry in enumerate(read_audit(path)) if n != leave_out]
    path.unlink()
    for entry in entries:
        append_entry(
            path,
            time=entry.time,
            manifest_sha256=entry.manifest_sha256,
            round_number=entry.round,
            kind=entry.kind,
            content=b"",
            recipient=entry.recipient,
            server_head=entry.server_head,
        )


@pytest.mark.parametrize("privacy", [{}, MASKED], ids=["open", "masked"])
def test_site_and_server_hold_one_history_whose_rewriting_is_found(tmp_path, privacy):
    site, run_folder = federate(tmp_path, privacy=privacy)

    found = check(site, run_folder)

    n_messages = len(read_audit(site.folder / AUDIT_FILE))  # six a round under masks, else two
    assert (found.rounds, found.heads_at_server) == (2, 2)
    assert found.heads_at_site == n_messages == (12 if privacy else 4)
    rewrite(site.folder / AUDIT_FILE, leave_out=0)
    with pytest.raises(LedgerError, match=r"lacks the message of round 1 .* of round 2"):
        check(site, run_folder)


def test_a_log_that_was_cut_off_is_found(tmp_path):
    site, run_folder = federate(tmp_path)
    path = site.folder / AUDIT_FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))

    with pytest.raises(LedgerError, match="lacks the message of round 2"):
        check(site, run_folder)


def test_a_record_that_the_server_changed_is_found(tmp_path):
    site, run_folder = federate(tmp_path)
    path = run_folder / "metrics.jsonl"
    first, second = map(json.loads, path.read_text().splitlines())
    first["loss"] = 0.25
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")

    with pytest.raises(LedgerError, match="the record before round 2 had the head"):
        check(site, run_folder)


def test_an_older_copy_of_the_record_says_nothing_of_later_messages(tmp_path):
    site, run_folder = federate(tmp_path)
    state = json.loads((run_folder / "state.json").read_text())
    (run_folder / "state.json").write_text(json.dumps(state | {"rounds_done": 1}))

    found = check(site, run_folder)

    assert (found.rounds, found.heads_at_server) == (1, 1)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No state of a federated run"):
        shared_history([], site="north", run_folder=tmp_path)


def test_fields_of_later_versions_leave_the_heads_of_an_older_record_alone():
    fields = {"round": 1, "loss": 0.5, "validation_dice": None, "sites": {}, "seconds": 1.0}
    old, new = RoundRecord(**fields), RoundRecord(**fields, suspects={}, audit_heads={})

    heads = record_heads([old, new])

    assert record_heads([new, old]) == heads
    assert heads[0] == "0" * 64
    assert len(set(heads)) == 3
    assert record_heads([]) == heads[:1]


def test_the_commands_say_to_whom_a_message_went_and_what_is_shared(tmp_path):
    site, run_folder = federate(tmp_path)

    shown = CliRunner().invoke(audit.app, ["show", str(site.folder), "--json"])
    verified = CliRunner().invoke(
        audit.app, ["verify", str(site.folder), "--against", str(run_folder)]
    )

    recipients = {line["recipient"] for line in json.loads(shown.stdout)}
    assert recipients == {"study beans, simulated on this machine"}
    assert "2 rounds, in 2 of which the server took down a hash of this log" in verified.stdout
    assert "4 messages of this log hold a hash of the server's record" in verified.stdout
