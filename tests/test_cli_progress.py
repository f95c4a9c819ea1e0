"""How far a submitted study is, from its files."""

from __future__ import annotations

import fcntl

import pytest

from segfed.cli.progress import read_progress, submitted_studies
from segfed.protocol import FederationState, RoundRecord, ServerJob, StudyFolder
from tests.federation_samples import manifest


def submitted(folder, *, begun=True):
    """A study of three rounds that Flower took as its run 7."""
    study = StudyFolder.of(folder, manifest().sha256)
    study.root.mkdir(parents=True)
    study.job.write_text(ServerJob(manifest=manifest(), sites={"north": 4}).model_dump_json())
    study.run_id.write_text("7\n")
    if begun:
        study.begun.write_text("7\n")
    return study


def finish_rounds(study, n_rounds, *, lines=None, finished=False):
    """What the server writes after some rounds of ten seconds."""
    study.run.mkdir()
    records = [
        RoundRecord(round=index, loss=None, validation_dice=0.5, sites={"north": {}}, seconds=10)
        for index in range(1, (lines or n_rounds) + 1)
    ]
    (study.run / "metrics.jsonl").write_text(
        "".join(record.model_dump_json() + "\n" for record in records)
    )
    state = FederationState(
        manifest_sha256=manifest().sha256, rounds_done=n_rounds, best_round=1, finished=finished
    )
    (study.run / "state.json").write_text(state.model_dump_json())


def test_a_study_that_nobody_submitted_has_no_rounds(tmp_path):
    progress = read_progress(StudyFolder.of(tmp_path, "a"))

    assert (progress.state, progress.records) == ("not submitted", ())
    assert submitted_studies(tmp_path) == ()


def test_a_run_whose_process_has_not_begun_is_starting(tmp_path):
    study = submitted(tmp_path, begun=False)

    assert read_progress(study).state == "starting"
    assert submitted_studies(tmp_path) == (study,)


def test_a_resumed_run_is_starting_until_its_own_process_begins(tmp_path):
    study = submitted(tmp_path)
    study.run_id.write_text("8\n")

    assert read_progress(study).state == "starting"


@pytest.mark.parametrize("locked", [True, False])
def test_a_run_is_running_while_its_process_holds_the_lock(tmp_path, locked):
    study = submitted(tmp_path)
    with study.lock.open("ab") as handle:
        if locked:
            fcntl.flock(handle, fcntl.LOCK_EX)
        progress = read_progress(study)

    assert progress.state == ("running" if locked else "stopped")


def test_the_time_left_is_that_of_the_rounds_so_far(tmp_path):
    study = submitted(tmp_path)
    finish_rounds(study, 1)

    # Two of three rounds are left, and one took 10 s.
    assert read_progress(study).seconds_left == 20


def test_a_round_counts_once_its_state_is_written(tmp_path):
    study = submitted(tmp_path)
    finish_rounds(study, 1, lines=2)

    assert [record.round for record in read_progress(study).records] == [1]


def test_a_run_that_says_so_is_finished_before_its_last_round(tmp_path):
    study = submitted(tmp_path)
    finish_rounds(study, 2, finished=True)

    progress = read_progress(study)

    assert (progress.state, progress.seconds_left, progress.best_round) == ("finished", 0, 1)


def test_updates_of_the_round_in_progress_and_problems_are_told(tmp_path):
    study = submitted(tmp_path)
    (study.run / "spool").mkdir(parents=True)
    (study.run / "spool" / "north.update").touch()
    study.problem.write_text("It is broken.\n")

    progress = read_progress(study)

    assert (progress.answered, progress.problem) == (("north",), "It is broken.")


def test_who_answered_is_unknown_under_masks(tmp_path):
    study = submitted(tmp_path)
    privacy = {"secure_aggregation": True, "threshold": 2, "clip_norm": 1.0}
    job = ServerJob(manifest=manifest(privacy=privacy), sites={"north": 4})
    study.job.write_text(job.model_dump_json())

    assert read_progress(study).answered is None


def test_a_run_that_ended_early_says_why(tmp_path):
    study = submitted(tmp_path)
    finish_rounds(study, 2, finished=True)
    state = study.run / "state.json"
    ended = FederationState.model_validate_json(state.read_text()).model_copy(
        update={"ended": "The budget is spent."}
    )
    state.write_text(ended.model_dump_json())

    progress = read_progress(study)

    assert (progress.state, progress.problem) == ("finished", "The budget is spent.")
