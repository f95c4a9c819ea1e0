"""A study without images, and agents that answer by rule: for the tests of `federation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from federation.messages import Weights
from federation.simulation import run_federation
from segfed.protocol import (
    AgentConnection,
    AgentError,
    AgentErrorCode,
    Manifest,
    RoundRecord,
    RoundReply,
    RoundRequest,
)


def arrays(value: float = 0.0) -> Weights:
    """Two arrays, one of them without dimensions."""
    return {
        "a.weight": np.full((3, 2), value, dtype=np.float32),
        "b.scale": np.full((), value, dtype=np.float32),
    }


def manifest(**changes: Any) -> Manifest:
    """A study of three rounds."""
    fields = {
        "study": "s",
        "task": "t",
        "plan": {"structures": {"x": [1]}},
        "arm": "manual",
        "train_split": "train",
        "seed": 0,
        "rounds": 3,
        "steps_per_round": 1,
    }
    return Manifest.model_validate(fields | changes)


@dataclass
class AddingAgent:
    """Adds a number to every weight; its Dice is a tenth of the weights that it is shown."""

    step: float
    n_cases: int = 1
    requests: list[RoundRequest] = field(default_factory=list)

    def answer(self, request: RoundRequest) -> RoundReply:
        self.requests.append(request)
        weights = load(request.weights)
        if request.verb == "validate":
            return RoundReply(b"", 1, {"dice_x": float(weights["b.scale"]) / 10, "seconds": 0.5})
        trained = {
            name: np.asarray(value + np.float32(self.step)) for name, value in weights.items()
        }
        return RoundReply(save(trained), self.n_cases, {"loss": self.step, "seconds": 1.0})


@dataclass
class FailingAgent:
    """Refuses everything with one code."""

    code: AgentErrorCode = AgentErrorCode.TOO_FEW_CASES

    def answer(self, _request: RoundRequest) -> RoundReply:
        raise AgentError(self.code)


def run(
    folder: Path, agents: Mapping[str, AgentConnection], study: Manifest | None = None
) -> list[RoundRecord]:
    """Train in ``folder/run`` from weights of zero; returns the records as they were reported."""
    (folder / "start.safetensors").write_bytes(save(arrays()))
    records: list[RoundRecord] = []
    run_federation(
        study or manifest(),
        agents=agents,
        initial_weights=folder / "start.safetensors",
        out=folder / "run",
        on_round=records.append,
    )
    return records
