"""A training that is killed goes on as if it had not been."""

from __future__ import annotations

import pytest
import torch

import segfed.study.resumable
from segfed.engine import LocalTrainer, build_network
from segfed.errors import TrainingError
from segfed.study.resumable import Budget, read_state, train_resumably
from tests.engine_samples import sample_cases, sample_plan

PLAN = sample_plan(features=[4, 8], batch_size=1)
CASES = sample_cases(3)


class KilledError(Exception):
    """Stands for the end of the process."""


def train(folder, *, steps=10, seconds=None, n_validation=1, kill_at=None, inputs=None, cases=2):
    def on_state(state):
        seen.append(state.step)
        if state.step == kill_at:
            raise KilledError

    seen: list[int] = []
    weights, state = train_resumably(
        folder,
        PLAN,
        CASES[:cases],
        validation=CASES[3 - n_validation :] if n_validation else (),
        network=build_network(PLAN, seed=1),
        seed=5,
        budget=Budget(steps, seconds),
        inputs=inputs or {"labels": "a"},
        device=torch.device("cpu"),
        on_state=on_state,
    )
    return weights, state, seen


def assert_equal(weights, expected):
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


@pytest.mark.parametrize("save_seconds", [60.0, 0.0])
def test_a_killed_training_goes_on_and_ends_as_an_unbroken_one(tmp_path, monkeypatch, save_seconds):
    monkeypatch.setattr(segfed.study.resumable, "_SAVE_SECONDS", save_seconds)
    expected, expected_state, _ = train(tmp_path / "unbroken")
    for kill_at in (3, 7):
        with pytest.raises(KilledError):
            train(tmp_path / "killed", kill_at=kill_at)

    weights, state, seen = train(tmp_path / "killed")

    assert_equal(weights, expected)
    assert state == expected_state
    # Validated at steps 2, 4, 6, 8 and 10. Saved then, or after every step but the killed one's.
    assert seen[0] == (7 if save_seconds else 8)


def test_the_weights_are_those_of_the_best_validation(tmp_path, monkeypatch):
    dice = iter([0.2, 0.3, 0.5, 0.4, 0.1, 0.5])
    monkeypatch.setattr(
        segfed.study.resumable, "validation_dice", lambda *_, **__: {"pebble": next(dice)}
    )

    weights, state, _ = train(tmp_path / "best")

    # The start, then steps 2, 4, 6, 8 and 10: the first of two equals is kept.
    assert (state.start_dice, state.best_dice, state.best_step) == (0.2, 0.5, 4)
    trainer = LocalTrainer(
        PLAN,
        CASES[:2],
        network=build_network(PLAN, seed=1),
        seed=5,
        total_steps=10,
        device=torch.device("cpu"),
    )
    trainer.run(4)
    assert_equal(weights, trainer.weights())


def test_without_validation_the_last_weights_count(tmp_path):
    weights, state, seen = train(tmp_path / "last", n_validation=0, steps=3)

    assert (state.start_dice, state.best_dice, state.best_step) == (None, None, None)
    assert seen == [1, 2, 3]
    assert_equal(weights, train(tmp_path / "again", n_validation=0, steps=3)[0])


def test_other_inputs_begin_anew(tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path, kill_at=5)

    _, _, seen = train(tmp_path, inputs={"labels": "b"})

    assert seen == list(range(1, 11))


def test_time_is_turned_into_steps_once(tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path, steps=None, seconds=1e-3, kill_at=1)
    total = read_state(tmp_path).total_steps

    # The number of steps was settled when the training began; more time does not change it.
    _, state, _ = train(tmp_path, steps=None, seconds=1e-3)

    assert total == state.total_steps == 1


def test_measuring_the_speed_leaves_the_network_as_it_was(tmp_path):
    by_time, state, _ = train(tmp_path / "time", steps=None, seconds=1e-3)
    by_steps, _, _ = train(tmp_path / "steps", steps=state.total_steps)

    assert_equal(by_time, by_steps)


def test_no_cases_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="on 0 cases"):
        train(tmp_path, cases=0)
