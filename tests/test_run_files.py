"""What a federated run left on disk, as its readers find it."""

from __future__ import annotations

import pytest

from segfed.errors import ConfigError
from segfed.protocol import FederationState, RoundRecord
from segfed.run_files import METRICS_FILE, STATE_FILE, read_rounds, read_state


def a_round(number):
    return RoundRecord(round=number, loss=1.0, validation_dice=None, sites={}, seconds=1.0)


def state(rounds_done):
    return FederationState(
        manifest_sha256="0" * 64, rounds_done=rounds_done, best_round=None, finished=False
    )


def write_run(folder, *, n_records, rounds_done):
    lines = [a_round(number).model_dump_json() + "\n" for number in range(1, n_records + 1)]
    (folder / METRICS_FILE).write_text("".join(lines))
    (folder / STATE_FILE).write_text(state(rounds_done).model_dump_json())


def test_a_round_that_the_state_does_not_count_yet_is_none(tmp_path):
    write_run(tmp_path, n_records=3, rounds_done=2)

    assert read_rounds(tmp_path, read_state(tmp_path)) == (a_round(1), a_round(2))


def test_a_record_that_ends_before_the_last_round_is_refused(tmp_path):
    write_run(tmp_path, n_records=1, rounds_done=2)

    with pytest.raises(ConfigError, match=r"holds 1 rounds; expected 2.*backup"):
        read_rounds(tmp_path, read_state(tmp_path))


@pytest.mark.parametrize("content", [None, b'{"round": 1}\n', b"\xff\n"])
def test_a_record_that_is_missing_or_damaged_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / METRICS_FILE).write_bytes(content)

    with pytest.raises(ConfigError, match=r"metrics.jsonl cannot be read .*a line for each round"):
        read_rounds(tmp_path, state(1))


def test_a_run_without_a_finished_round_has_no_state(tmp_path):
    with pytest.raises(ConfigError, match=r"No state of a federated run at .*state\.json"):
        read_state(tmp_path)
