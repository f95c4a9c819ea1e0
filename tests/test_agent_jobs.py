"""Finished jobs on disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segfed.agent.jobs import (
    StoredTraining,
    store_reply,
    stored_progress,
    stored_reply,
    stored_residue,
    stored_training,
)
from segfed.files import sha256_bytes
from segfed.protocol import RoundReply, RoundRequest

REQUEST = RoundRequest("f" * 64, 2, "train", b"global")
REPLY = RoundReply(b"local", 4, {"loss": 0.5})


def test_the_same_job_gets_the_stored_reply(tmp_path):
    store_reply(tmp_path, REQUEST, REPLY, progress=b"trainer")

    assert stored_reply(tmp_path, REQUEST) == REPLY


@pytest.mark.parametrize(
    "other", [{"round": 3}, {"verb": "validate"}, {"weights": b"other"}], ids=str
)
def test_another_job_does_not(tmp_path, other):
    store_reply(tmp_path, REQUEST, REPLY, progress=b"trainer")

    assert stored_reply(tmp_path, replace(REQUEST, **other)) is None


def test_nothing_is_stored_in_a_new_folder(tmp_path):
    assert stored_reply(tmp_path / "new", REQUEST) is None
    assert stored_progress(tmp_path / "new", before_round=1) is None


def test_a_damaged_update_is_made_again(tmp_path):
    store_reply(tmp_path, REQUEST, REPLY, progress=None)
    (tmp_path / "train_002.safetensors").write_bytes(b"loca")

    assert stored_reply(tmp_path, REQUEST) is None


def test_only_the_last_round_of_a_verb_is_kept(tmp_path):
    store_reply(tmp_path, REQUEST, REPLY, progress=b"trainer")
    store_reply(tmp_path, replace(REQUEST, verb="validate"), RoundReply(b"", 1, {}), progress=None)
    store_reply(tmp_path, replace(REQUEST, round=3), REPLY, progress=b"later")

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"train.json", "train_003.safetensors", "train_003.progress", "validate.json"}


def test_progress_serves_later_rounds_only(tmp_path):
    store_reply(tmp_path, REQUEST, REPLY, progress=b"trainer")

    assert stored_progress(tmp_path, before_round=3) == b"trainer"
    assert stored_progress(tmp_path, before_round=5) == b"trainer"
    assert stored_progress(tmp_path, before_round=2) is None


def test_a_process_killed_before_the_json_leaves_the_round_before(tmp_path):
    store_reply(tmp_path, REQUEST, REPLY, progress=b"trainer")
    (tmp_path / "train_003.safetensors").write_bytes(b"unfinished")
    (tmp_path / "train_003.progress").write_bytes(b"unfinished")

    assert stored_reply(tmp_path, REQUEST) == REPLY
    assert stored_progress(tmp_path, before_round=3) == b"trainer"


def test_the_last_training_is_found_by_its_round_alone(tmp_path):
    store_reply(tmp_path, REQUEST, REPLY, progress=None)

    found = stored_training(tmp_path, 2)
    assert found == StoredTraining(REPLY, base_sha256=sha256_bytes(REQUEST.weights))
    assert stored_training(tmp_path, 1) is None
    assert stored_training(tmp_path / "new", 2) is None
    (tmp_path / "train_002.safetensors").write_bytes(b"loca")
    assert stored_training(tmp_path, 2) is None


def test_a_residue_is_kept_and_replaced_with_its_reply(tmp_path):
    store_reply(tmp_path, REQUEST, REPLY, progress=None, residue=b"owed")

    assert stored_residue(tmp_path, before_round=3) == b"owed"
    assert stored_residue(tmp_path, before_round=2) is None
    store_reply(tmp_path, replace(REQUEST, round=3), REPLY, progress=None)
    assert stored_residue(tmp_path, before_round=4) is None
