"""What every part of a running study needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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

    version: str
    """Of this program; results of another version are computed again."""

    launch_federation: LaunchFederation
    on_event: OnEvent
