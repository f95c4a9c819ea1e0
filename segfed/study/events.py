"""What a running study tells whoever shows its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from segfed.protocol import RoundRecord
from segfed.study.models import ModelId


@dataclass(frozen=True)
class StudyChecked:
    """Preflight passed; this is what will run."""

    n_trainings: int
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
