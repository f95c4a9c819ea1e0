"""The commands around labels: a small reader study from assignment to export."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from segfed.agent import AUDIT_FILE
from segfed.cli import audit, label
from segfed.errors import LedgerError
from segfed.sites import ReadingEvent, Site, store_label, submit_label
from tests.sites_samples import NOON, make_label, make_site


@pytest.fixture
def site(tmp_path) -> Site:
    return make_site(tmp_path, splits=("train", "train", "test"))


def run(app, *arguments: object) -> str:
    """Stdout of a command; its errors are raised."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def submit(site: Site, reader: str, case_id: str, *, size: int = 3) -> None:
    assignment = site.ledger().assignment(reader, case_id)
    submit_label(
        site,
        case_id=case_id,
        label=make_label(size=size),
        origin="ai_accepted" if assignment and assignment.arm == "assisted" else "manual",
        reader=reader,
    )


def test_a_study_from_assignment_to_export(site, tmp_path):
    run(label.app, "assign", site.folder, "--readers", "ann,bob", "--seed", 3, "--double-read-test")
    for a in site.ledger().assignments():
        submit(site, a.reader, a.case_id, size=3 if a.reader == "ann" else 4)

    status = json.loads(run(label.app, "status", site.folder, "--json"))
    assert sum(row["done"] for row in status["readings"]) == 4
    assert {row["arm"] for row in status["readings"]} == {"manual", "assisted"}
    # Blocks of 27 and 36 voxels with 27 in common, and the same core
    means = {row["structure"]: row["mean_dice"] for row in status["agreement"]}
    assert means == {"bean": pytest.approx(54 / 63), "core": 1}
    assert {pair["case_id"] for pair in status["pairs"]} == {"case2"}
    assert "4 labels" in run(label.app, "status", site.folder)

    shown = run(label.app, "approve", site.folder, "case0", "case1", "--reviewer", "rita")
    assert shown.count("is approved by rita") == 2
    assert "4 labels" in run(label.app, "status", site.folder), "a decision is no further label"
    run(label.app, "reopen", site.folder, "case2", "--reader", "bob", "--reviewer", "rita")
    versions = json.loads(run(label.app, "history", site.folder, "case2", "--json"))["versions"]
    assert [v["status"] for v in versions] == ["submitted", "submitted", "reopened"]
    assert [v["counts"] for v in versions].count(True) == 1
    shown = run(label.app, "history", site.folder, "case2")
    assert "bob's manual label reopened by rita" in shown
    assert "3 versions of case2" in shown

    run(label.app, "export", site.folder, "--out", tmp_path / "set", "--licence", "CC0-1.0")
    assert len(list((tmp_path / "set" / "labels").iterdir())) == 2


def test_assigning_proposals_that_no_model_can_make_is_pointed_out(site):
    warned = run(label.app, "assign", site.folder, "--readers", "ann", "--seed", "3")

    assert "no published model yet" in warned


def test_the_status_says_why_a_published_model_proposes_nothing(site):
    current = site.folder / "models" / "bean" / "current"
    current.parent.mkdir(parents=True)
    current.write_text("0123456789ab\n")

    assert "'0123456789ab'" in run(label.app, "status", site.folder)
    faults = json.loads(run(label.app, "status", site.folder, "--json"))["model_faults"]
    assert list(faults) == ["bean"]


def test_the_history_says_what_a_label_cost_its_reader(site):
    submitted_at = datetime(2026, 1, 2, 9, 30, tzinfo=UTC)
    submit_label(
        site,
        case_id="case0",
        label=make_label(size=4),
        origin="ai_corrected",
        reader="ann",
        proposal_sha256=store_label(site.folder, make_label(size=3)),
        model_sha256="ab" * 32,
        changed_fraction=0.25,
        opened_at=submitted_at - timedelta(seconds=90),
        submitted_at=submitted_at,
        active_seconds=60,
    )

    shown = run(label.app, "history", site.folder, "case0")

    assert "record 1, 2026-01-02 09:30: ann, assisted arm: ai_corrected, submitted" in shown
    assert "60 s of work, 90 s in all" in shown
    assert "changed 25.0% of what model abababababab proposed" in shown
    assert "1 version of case0" in shown


def test_the_audit_finds_an_altered_label_and_a_ledger_that_was_cut_off(site):
    submit(site, "ann", "case0")
    earlier = site.ledger().path.read_bytes()
    submit(site, "ann", "case1", size=4)
    found = json.loads(run(audit.app, "verify", site.folder, "--json"))
    last = found["ends"]["records"]
    assert (found["records"], found["messages"]) == (2, 0)
    shown = run(audit.app, "verify", site.folder, "--expect", last)
    assert "is whole: 2 label records" in shown
    assert f"--expect {last}" in shown

    # A backup put back in place is sound in itself: only the hash that was kept can tell.
    whole = site.ledger().path.read_bytes()
    site.ledger().path.write_bytes(earlier)
    with pytest.raises(LedgerError, match=f"no row with the hash {last}"):
        run(audit.app, "verify", site.folder, "--expect", last)
    site.ledger().path.write_bytes(whole)

    path = site.ledger().label_path(site.ledger().records("case1")[0].label_sha256)
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(LedgerError, match=r"record 2 \(case case1\) names .* has hash"):
        run(audit.app, "verify", site.folder)


@pytest.mark.parametrize("chain", ["assignments", "reading_events"])
def test_the_audit_finds_that_any_chain_was_cut_off(site, chain):
    run(label.app, "assign", site.folder, "--readers", "ann", "--seed", 3)
    earlier = site.ledger().path.read_bytes()
    site.ledger().assign("ann", "case0", "manual")
    site.ledger().note("ann", "case0", ReadingEvent(NOON, "opened"))
    submit(site, "ann", "case0")
    ends = json.loads(run(audit.app, "verify", site.folder, "--json"))["ends"]
    kept = [option for sha256 in ends.values() for option in ("--expect", sha256)]
    run(audit.app, "verify", site.folder, *kept)

    site.ledger().path.write_bytes(earlier)

    with pytest.raises(LedgerError, match=f"no row with the hash {ends[chain]}"):
        run(audit.app, "verify", site.folder, "--expect", ends[chain])


def test_the_audit_reads_the_agents_log_too(site):
    (site.folder / AUDIT_FILE).write_text("{}\n")

    with pytest.raises(LedgerError, match=r"audit\.jsonl holds a line that is no record"):
        run(audit.app, "verify", site.folder)
