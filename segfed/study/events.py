"""What a running study tells whoever shows its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from segfed.protocol import RoundRecord
from segfed.study.models import ModelId

Action = Literal["keep", "resume", "train", "build", "leave out"]
"""``build`` makes a model that needs no training: an ensemble, or the untrained network."""


@dataclass(frozen=True)
class ScheduledModel:
    """One model of a study, and what becomes of it."""

    model: ModelId
    action: Action
    steps: int
    """Optimizer steps of its training, over all sites."""

    seconds: float | None
    """What its training still takes, by those that were measured in this run folder; for a kept
    model what it took. None where there is nothing to go by."""

    n_predictions: int
    """Test cases that it still has to predict."""

    scoring_seconds: float | None
    """What these predictions take; None where there is nothing to go by."""

    @property
    def still_seconds(self) -> float | None:
        """Everything that is still to be done for it, one after the other."""
        if self.action == "leave out":
            return 0.0
        training = self.seconds if self.action in ("train", "resume") else 0.0
        if training is None or self.scoring_seconds is None:
            return None
        return training + self.scoring_seconds


@dataclass(frozen=True)
class Schedule:
    """Every model that a study names, in the order in which they are worked on."""

    models: tuple[ScheduledModel, ...]
    workers: int

    @property
    def included(self) -> tuple[ModelId, ...]:
        """The models that the run's results cover."""
        return tuple(item.model for item in self.models if item.action != "leave out")

    @property
    def left_out(self) -> tuple[ModelId, ...]:
        """The models that were not asked for and that no earlier run has finished."""
        return tuple(item.model for item in self.models if item.action == "leave out")

    @property
    def expected_seconds(self) -> float | None:
        """All that is still to be done, shared by the workers; None where a part is unknown."""
        parts = [item.still_seconds for item in self.models]
        known = [part for part in parts if part is not None]
        return sum(known) / self.workers if len(known) == len(parts) else None

    def as_json(self) -> dict[str, Any]:
        """The schedule as plain data."""
        return {
            "workers": self.workers,
            "expected_seconds": self.expected_seconds,
            "models": [
                {**asdict(item.model), **{k: v for k, v in vars(item).items() if k != "model"}}
                for item in self.models
            ],
        }


@dataclass(frozen=True)
class StudyChecked:
    """Preflight passed; this is what will run."""

    schedule: Schedule
    """Each model, and what becomes of it."""

    n_models: int
    """Models that predict: trained, ensembles and untrained."""

    n_test_cases: int
    """Test cases of all sites together; every model predicts each of them."""

    budget_steps: dict[str, int]
    """Optimizer steps of one model of each regime; for ``federated`` those of all sites."""

    warnings: tuple[str, ...]


@dataclass(frozen=True)
class TrainingStarted:
    """A model begins to train, or is found finished."""

    model: ModelId
    total: int
    """Steps, or rounds for a federated model."""

    unit: str
    """``steps`` or ``rounds``."""


@dataclass(frozen=True)
class TrainingAdvanced:
    """Steps or rounds done so far."""

    model: ModelId
    done: int
    loss: float | None
    round_record: RoundRecord | None = None
    """What the round brought, for a federated model."""


@dataclass(frozen=True)
class TrainingFinished:
    """A model is there."""

    model: ModelId
    reused: bool
    """Whether an earlier run had trained it already."""

    seconds: float
    """How long it trained, then or now."""


@dataclass(frozen=True)
class CaseScored:
    """One model predicted one test case, or an earlier run had done so."""

    model: ModelId
    done: int
    total: int


StudyEvent = StudyChecked | TrainingStarted | TrainingAdvanced | TrainingFinished | CaseScored
OnEvent = Callable[[StudyEvent], None]


def ignore_event(event: StudyEvent) -> None:
    """The listener of those who do not watch."""
    del event
