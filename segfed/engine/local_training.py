"""A model trained from one machine's cases alone, chosen by validation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from segfed.engine.cache import PreparedCase
from segfed.engine.network import UNet
from segfed.engine.plan import Plan
from segfed.engine.prediction import validation_dice
from segfed.engine.training import LocalTrainer, OnStep, TrainSummary


def train_local(
    plan: Plan,
    cases: Sequence[PreparedCase],
    *,
    validation: Sequence[PreparedCase] = (),
    network: UNet,
    seed: int,
    total_steps: int,
    n_validations: int = 5,
    device: torch.device,
    on_step: OnStep | None = None,
) -> tuple[dict[str, torch.Tensor], TrainSummary]:
    """Train without a federation; returns the best weights and what training brought.

    The best weights are those with the highest mean Dice of the structures over the validation
    cases, measured at ``n_validations`` evenly spaced moments, and the earlier of two equals, as in
    a federation; where no Dice could be measured, the last.

    Raises:
        TrainingError: If there are no cases, or the loss is no longer a number.
    """
    trainer = LocalTrainer(
        plan, cases, network=network, seed=seed, total_steps=total_steps, device=device
    )
    n_stretches = min(n_validations, total_steps) if validation else 1
    ends = [round(total_steps * (n + 1) / n_stretches) for n in range(n_stretches)]
    best: dict[str, torch.Tensor] | None = None
    best_dice, best_step, summaries = -math.inf, None, []
    for end in ends:
        summaries.append(trainer.run(end - trainer.steps_done, on_step))
        scores = validation_dice(network, plan, validation, device=device) if validation else {}
        measured = [value for value in scores.values() if math.isfinite(value)]
        mean_dice = float(np.mean(measured)) if measured else -math.inf
        if mean_dice > best_dice:
            best, best_dice, best_step = trainer.weights(), mean_dice, trainer.steps_done
    return best or trainer.weights(), TrainSummary(
        loss=summaries[-1].loss,
        steps=trainer.steps_done,
        seconds=sum(summary.seconds for summary in summaries),
        n_cases=len(trainer.cases),
        best_step=best_step,
        peak_bytes=max((s.peak_bytes for s in summaries if s.peak_bytes), default=None),
    )
