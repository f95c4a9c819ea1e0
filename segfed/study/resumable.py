"""One training of a site's own model, which a later process can go on with after a kill."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segfed.engine import (
    LocalTrainer,
    Plan,
    PreparedCase,
    State,
    UNet,
    copy_state,
    read_weights,
    validation_dice,
    write_weights,
)
from segfed.engine.device import place
from segfed.files import sha256_json, write_bytes, write_json
from segfed.settings import Settings

STATE_FILE = "state.json"
_TRAINER_FILE = "trainer.safetensors"
_N_VALIDATIONS = 5
_SAVE_SECONDS = 60.0
_SHOW_SECONDS = 2.0
# The first steps are slower than all others: libraries choose their kernels.
_TIMED_STEPS = (2, 3)


class TrainingState(Settings):
    """How far a training has come; lies in its folder for everybody to read."""

    inputs_sha256: str
    """What it is made from; a folder with other inputs is emptied."""

    step: int = 0
    total_steps: int
    start_dice: float | None
    """Mean validation Dice before the first step; None where it could not be measured."""

    validated_step: int = 0
    best_dice: float | None = None
    best_step: int | None = None


@dataclass(frozen=True)
class Budget:
    """How long to train: a number of steps, or the number that some time allows."""

    steps: int | None
    seconds: float | None


OnState = Callable[[TrainingState], None]
"""Called after each step."""


def train_resumably(
    folder: Path,
    plan: Plan,
    cases: Sequence[PreparedCase],
    *,
    validation: Sequence[PreparedCase],
    network: UNet,
    seed: int,
    budget: Budget,
    inputs: dict[str, Any],
    device: torch.device,
    on_state: OnState,
) -> tuple[State, TrainingState]:
    """The best weights of a training, and how it went.

    The best weights are those with the highest mean validation Dice at five evenly spaced moments;
    without validation cases, the last. A training that was killed goes on where it stopped, with
    the number of steps that it began with, and gives the result of one that was not.

    Args:
        folder: Where its progress lies; the caller may delete it afterwards.
        plan: Settings, with the learning rate to use.
        cases: Cases to draw patches from.
        validation: Cases to choose by.
        network: The network to train, in place.
        seed: Decides patches and augmentation.
        budget: How long to train.
        inputs: Everything else that decides the result, as plain values.
        device: Where to compute.
        on_state: Called after each step.

    Raises:
        TrainingError: If there are no cases, or the loss is no longer a number.
        WeightsError: If the stored progress is damaged.
    """
    place(network, device)
    state = _begun(folder, sha256_json(inputs))
    if state is None:
        shutil.rmtree(folder, ignore_errors=True)
        started = time.perf_counter()
        dice = _mean_dice(network, plan, validation, device)
        validation_seconds = time.perf_counter() - started
        state = TrainingState(
            inputs_sha256=sha256_json(inputs),
            total_steps=budget.steps
            or _affordable_steps(
                plan,
                cases,
                network=network,
                device=device,
                seconds=(budget.seconds or 0.0) - (1 + _N_VALIDATIONS) * validation_seconds,
            ),
            start_dice=dice,
        )
        _write_state(folder, state)
    trainer = LocalTrainer(
        plan, cases, network=network, seed=seed, total_steps=state.total_steps, device=device
    )
    if (folder / _TRAINER_FILE).exists():
        trainer.resume((folder / _TRAINER_FILE).read_bytes())
    for end in _ends(state.total_steps, validated=bool(validation)):
        if end > state.validated_step:
            _train_until(end, trainer, folder, state, on_state)
            dice = _mean_dice(network, plan, validation, device)
            state = _after_validation(folder, state, trainer, dice)
    best = folder / f"best-{state.best_step}.safetensors"
    return (read_weights(best) if state.best_step else trainer.weights()), state


def read_state(folder: Path) -> TrainingState | None:
    """How far the training in a folder has come; None where there is none."""
    try:
        return TrainingState.model_validate_json((folder / STATE_FILE).read_bytes())
    except FileNotFoundError:
        return None


def _begun(folder: Path, inputs_sha256: str) -> TrainingState | None:
    """The state of a training from the same inputs."""
    state = read_state(folder)
    return state if state and state.inputs_sha256 == inputs_sha256 else None


def _ends(total_steps: int, *, validated: bool) -> list[int]:
    """Steps after which is validated; the last one in any case."""
    count = min(_N_VALIDATIONS, total_steps) if validated else 1
    return [round(total_steps * (number + 1) / count) for number in range(count)]


def _train_until(
    end: int, trainer: LocalTrainer, folder: Path, state: TrainingState, on_state: OnState
) -> None:
    """Train up to a step; what a kill can cost is a minute's work."""
    saved = shown = time.monotonic()

    def after_step(step: int, _loss: float) -> None:
        nonlocal saved, shown
        now, current = time.monotonic(), state.model_copy(update={"step": step})
        if now - saved > _SAVE_SECONDS:
            write_bytes(folder / _TRAINER_FILE, trainer.progress())
            saved = now
        if now - shown > _SHOW_SECONDS:
            _write_state(folder, current)
            shown = now
        on_state(current)

    trainer.run(end - trainer.steps_done, after_step)
    write_bytes(folder / _TRAINER_FILE, trainer.progress())


def _after_validation(
    folder: Path, state: TrainingState, trainer: LocalTrainer, dice: float | None
) -> TrainingState:
    """Keep the weights if they are the best so far, and note that; the note decides."""
    step = trainer.steps_done
    reached = {"step": step, "validated_step": step}
    if dice is None or (state.best_dice is not None and dice <= state.best_dice):
        state = state.model_copy(update=reached)
        _write_state(folder, state)
        return state
    write_weights(folder / f"best-{step}.safetensors", trainer.weights())
    earlier = folder / f"best-{state.best_step}.safetensors"
    state = state.model_copy(update=reached | {"best_dice": dice, "best_step": step})
    _write_state(folder, state)
    earlier.unlink(missing_ok=True)
    return state


def _mean_dice(
    network: UNet, plan: Plan, validation: Sequence[PreparedCase], device: torch.device
) -> float | None:
    """Mean over the structures that the validation cases define; None where they define none."""
    scores = validation_dice(network, plan, validation, device=device) if validation else {}
    measured = [value for value in scores.values() if math.isfinite(value)]
    return float(np.mean(measured)) if measured else None


def _affordable_steps(
    plan: Plan,
    cases: Sequence[PreparedCase],
    *,
    network: UNet,
    device: torch.device,
    seconds: float,
) -> int:
    """How many steps some time allows, at least one; the network is left as it was."""
    before = copy_state(network)
    trainer = LocalTrainer(
        plan, cases, network=network, seed=0, total_steps=sum(_TIMED_STEPS), device=device
    )
    warm_up, timed = _TIMED_STEPS
    trainer.run(warm_up)
    per_step = trainer.run(timed).seconds / timed
    trainer.load_weights(before)
    return max(1, int(seconds / per_step) - sum(_TIMED_STEPS))


def _write_state(folder: Path, state: TrainingState) -> None:
    write_json(folder / STATE_FILE, state.model_dump(mode="json"))
