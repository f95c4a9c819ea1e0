"""What every part of a running study needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from segfed.engine import Plan
from segfed.evaluation import Profile
from segfed.protocol import FederationJob, FederationState, RoundRecord
from segfed.study.events import OnEvent
from segfed.study.preflight import StudyData
from segfed.study.settings import StudySettings


class LaunchFederation(Protocol):
    """Runs one federated training in a process of its own, and follows its rounds."""

    def __call__(
        self, job: FederationJob, *, on_round: Callable[[RoundRecord], None]
    ) -> FederationState:
        """The final state; raises ``FederationError`` if the training fails."""


@dataclass(frozen=True)
class StudyRun:
    """One study being run: what was asked for, what was found, and where results go."""

    settings: StudySettings
    data: StudyData
    plan: Plan
    profile: Profile
    out: Path
    """The run folder."""

    versions: Mapping[str, str]
    """Of the packages behind the figures; results of other versions are computed again."""

    device: torch.device
    """Where it computes; results of another device are computed again."""

    workers: int
    """Models that are trained or scored at the same time."""

    launch_federation: LaunchFederation
    on_event: OnEvent


def budget_steps(run: StudyRun) -> dict[str, int]:
    """Optimizer steps of one model of each regime; for ``federated`` those of all sites."""
    budget, n_sites = run.settings.budget, len(run.data.sites)
    steps = {
        "local": budget.local(),
        "pooled": budget.pooled(n_sites=n_sites),
        "ensemble": n_sites * budget.local(),
        "federated": n_sites * budget.rounds * budget.steps_per_round,
    }
    return {regime: steps[regime] for regime in run.settings.regimes}
