"""Starting a study at the server, and following it to an end that is told truthfully."""

from __future__ import annotations

import fcntl
import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from segfed.agent import sign
from segfed.cli import flower, submission
from segfed.cli.federation_code import code_sha256
from segfed.cli.main import app
from segfed.cli.submission import current_progress, follow, submit
from segfed.engine import read_weights
from segfed.errors import FederationError
from segfed.protocol import ServerJob, StudyFolder
from segfed.settings import load_json, toml_table
from tests.agent_samples import bean_manifest, make_owner, owner_public_key, start_weights
from tests.test_cli_progress import finish_rounds


@pytest.fixture
def owner(tmp_path):
    """The key of the one who signs studies."""
    return make_owner(tmp_path)


@pytest.fixture
def kit(tmp_path, owner, monkeypatch):
    """The kit of a server that takes every run, and what Flower says of them."""
    folder = tmp_path / "server"
    folder.mkdir()
    owner_public_key(owner).rename(folder / "owner.pub")
    (folder / "kit.toml").write_text(
        toml_table(
            {
                "federation": "trial",
                "bind": "127.0.0.1",
                "port": 9092,
                "sites": ["north", "south"],
                "expires": "2100-01-01T00:00:00Z",
            }
        )
    )
    monkeypatch.setattr(submission, "register_sites", lambda *_, **__: {"north": 1, "south": 2})
    monkeypatch.setattr(flower, "start_run", lambda *_: 7)
    monkeypatch.setattr(flower, "run_state", lambda *_: "running")
    monkeypatch.setattr(submission, "_LOOK_SECONDS", 0.0)
    return folder


@pytest.fixture
def signed(tmp_path, owner):
    """A study of three rounds."""
    manifest = bean_manifest(tmp_path, bundle_sha256=code_sha256())
    return sign(manifest, owner)


def study_of(kit, signed):
    """Where the study lies."""
    return StudyFolder.of(kit, signed.manifest.sha256)


def begin(study):
    """What the server's process writes first."""
    study.begun.write_text(study.run_id.read_text())


def test_a_submitted_study_has_all_that_its_server_needs(kit, signed):
    study = submit(kit, signed, resume=False, say=print)

    job = load_json(study.job, ServerJob, kind="job")
    assert (job.manifest, job.sites) == (signed.manifest, {"north": 1, "south": 2})
    assert study.start.read_bytes() == start_weights(signed.manifest)
    assert study.run_id.read_text() == "7\n"
    assert current_progress(kit, study).state == "starting"


def test_a_study_that_starts_or_runs_is_not_submitted_again(kit, signed):
    study = submit(kit, signed, resume=False, say=print)
    with pytest.raises(FederationError, match="runs already"):
        submit(kit, signed, resume=True, say=print)

    begin(study)
    with study.lock.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(FederationError, match="runs already"):
            submit(kit, signed, resume=True, say=print)


def test_a_study_that_was_cut_short_goes_on_only_when_asked_to(kit, signed):
    study = submit(kit, signed, resume=False, say=print)
    begin(study)
    finish_rounds(study, 1)
    before = read_weights(study.start)

    with pytest.raises(FederationError, match="1 rounds of the study that were cut short"):
        submit(kit, signed, resume=False, say=print)

    assert submit(kit, signed, resume=True, say=print) == study
    assert read_weights(study.start).keys() == before.keys()


def test_there_must_be_something_to_go_on_with(kit, signed):
    with pytest.raises(FederationError, match=r"nothing in .* to go on with"):
        submit(kit, signed, resume=True, say=print)


def test_a_finished_study_is_not_run_again(kit, signed):
    study = submit(kit, signed, resume=False, say=print)
    begin(study)
    finish_rounds(study, 3, finished=True)

    for resume in (False, True):
        with pytest.raises(FederationError, match="is finished"):
            submit(kit, signed, resume=resume, say=print)


def test_a_study_that_asks_for_more_sites_is_refused(kit, tmp_path, owner):
    manifest = bean_manifest(tmp_path, bundle_sha256=code_sha256(), federation={"minimum_sites": 3})

    with pytest.raises(FederationError, match="names 2 sites, expected at least the 3"):
        submit(kit, sign(manifest, owner), resume=False, say=print)


@pytest.mark.parametrize("n_sites", [2, 6])
def test_a_number_of_sites_that_the_threshold_does_not_fit_is_refused(
    kit, tmp_path, n_sites, monkeypatch, owner
):
    privacy = {"secure_aggregation": True, "threshold": 3, "clip_norm": 1.0}
    manifest = bean_manifest(tmp_path, bundle_sha256=code_sha256(), privacy=privacy)
    sites = {f"site-{number}": number for number in range(n_sites)}
    monkeypatch.setattr(submission, "register_sites", lambda *_, **__: sites)

    with pytest.raises(FederationError, match=rf"names {n_sites} sites, expected 3 to 5"):
        submit(kit, sign(manifest, owner), resume=False, say=print)


def test_a_study_that_the_kit_s_owner_did_not_sign_is_refused(kit, signed, tmp_path):
    stranger = sign(signed.manifest, make_owner(tmp_path, "stranger"))

    with pytest.raises(FederationError, match=r"not as the owner of .*owner\.pub signed it"):
        submit(kit, stranger, resume=False, say=print)

    assert not study_of(kit, signed).root.exists()


def test_whoever_submits_is_told_of_a_certificate_that_expires_soon(kit, signed):
    soon, said = datetime.now(UTC) + timedelta(days=3), []
    settings = (kit / "kit.toml").read_text()
    (kit / "kit.toml").write_text(settings.replace("2100-01-01T00:00:00Z", soon.isoformat()))

    submit(kit, signed, resume=False, say=said.append)

    assert [text.split(" at ")[0] for text in said] == ["The server's certificate expires"]


@pytest.mark.parametrize(("days", "warned"), [(300, False), (3, True), (-3, True)])
def test_whoever_looks_is_told_of_a_certificate_that_expires_or_has(kit, signed, days, warned):
    submit(kit, signed, resume=False, say=print)
    until = datetime.now(UTC) + timedelta(days=days)
    settings = (kit / "kit.toml").read_text()
    (kit / "kit.toml").write_text(settings.replace("2100-01-01T00:00:00Z", until.isoformat()))

    shown = CliRunner().invoke(app, ["federate", "status", str(kit), "--json"])

    assert json.loads(shown.stdout)["state"] == "starting"
    assert ("segfed federate provision" in " ".join(shown.stderr.split())) == warned


def test_code_that_nobody_approved_is_not_sent(kit, tmp_path, owner):
    manifest = bean_manifest(tmp_path, bundle_sha256="0" * 64)

    with pytest.raises(FederationError, match="declares the code 000000000000"):
        submit(kit, sign(manifest, owner), resume=False, say=print)


def test_every_round_is_told_once_and_the_end_is_good(kit, signed):
    study, told = submit(kit, signed, resume=False, say=print), []
    begin(study)
    finish_rounds(study, 3, finished=True)

    done = follow(kit, study, on_round=told.append)

    assert done.state == "finished"
    assert [record.round for record in told] == [1, 2, 3]


@pytest.mark.parametrize(
    ("problem", "said"), [("Too few.", "Too few."), (None, "gone without a word")]
)
def test_a_run_that_ended_early_is_a_failure_that_says_how_to_go_on(kit, signed, problem, said):
    study = submit(kit, signed, resume=False, say=print)
    begin(study)
    finish_rounds(study, 1)
    if problem:
        study.problem.write_text(problem)

    with pytest.raises(FederationError, match=rf"{said}.*1 of 3 rounds are kept.*--resume"):
        follow(kit, study, on_round=lambda _: None)


def no_answer(*_):
    """A server that is not there."""
    raise FederationError("nobody answers")


@pytest.mark.parametrize("state", [lambda *_: "finished:failed", no_answer])
def test_a_run_that_never_began_is_a_failure(kit, signed, state, monkeypatch):
    study = submit(kit, signed, resume=False, say=print)
    monkeypatch.setattr(flower, "run_state", state)

    with pytest.raises(FederationError, match="0 of 3 rounds"):
        follow(kit, study, on_round=lambda _: None)


def test_a_submission_that_was_cut_short_can_be_repeated(kit, signed, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(flower, "start_run", no_answer)
        with pytest.raises(FederationError, match="nobody answers"):
            submit(kit, signed, resume=False, say=print)

    assert current_progress(kit, study_of(kit, signed)).state == "stopped"
    submit(kit, signed, resume=False, say=print)
    assert current_progress(kit, study_of(kit, signed)).state == "starting"


def test_whoever_stops_looking_is_not_told_that_the_study_is_finished(
    kit, signed, tmp_path, monkeypatch
):
    path = tmp_path / "signed.json"
    path.write_text(signed.model_dump_json())
    monkeypatch.setattr(submission.time, "sleep", interrupt)

    result = CliRunner().invoke(app, ["federate", "submit", str(kit), str(path)])

    assert result.exit_code == 130
    assert "goes on without you" in result.stdout


def interrupt(_seconds):
    """Ctrl-C."""
    raise KeyboardInterrupt
