"""A study without images, and agents that answer by rule: for the tests of `federation`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from safetensors.numpy import load, save

from federation.attendance import Clock
from federation.client_app import make_client_app
from federation.grid import InProcessGrid
from federation.messages import Weights
from federation.simulation import run_federation
from federation.strategy import CheckedRounds
from segfed.agent.held_model import with_model
from segfed.agent.refusal import RefusedError
from segfed.protocol import (
    CORRECTION_PREFIX,
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
        "plan": {"structures": {"x": [1]}, "learning_rate": 0.1},
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
    scored: bytes = b""
    """The last model that it was shown; emptied, it needs the next one whole."""

    def answer(self, request: RoundRequest) -> RoundReply:
        self.requests.append(request)
        weights = load(self.whole(request).weights)
        if request.verb == "validate":
            self.scored = request.weights
            return RoundReply(b"", 1, {"dice_x": float(weights["b.scale"]) / 10, "seconds": 0.5})
        trained = {
            name: np.asarray(value + np.float32(self.step))
            for name, value in weights.items()
            if not name.startswith(CORRECTION_PREFIX)
        }
        metrics = {"loss": self.step, "seconds": 1.0, "steps": 1.0}
        return RoundReply(save(trained), self.n_cases, metrics)

    def whole(self, request: RoundRequest) -> RoundRequest:
        """The request with the model that it may name by its hash."""
        if not request.held_sha256:
            return request
        try:
            return with_model(request, self.scored)
        except RefusedError as error:
            raise AgentError(error.code) from None


@dataclass
class ChangedAgent(AddingAgent):
    """An adding agent whose training replies somebody changed on the way."""

    change: Callable[[Message], None] = lambda _reply: None


@dataclass
class FailingAgent:
    """Refuses everything with one code."""

    code: AgentErrorCode = AgentErrorCode.TOO_FEW_CASES

    def answer(self, _request: RoundRequest) -> RoundReply:
        raise AgentError(self.code)


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> Clock:
        return Clock(now=lambda: self.seconds, sleep=self._advance, poll_seconds=1.0)

    def _advance(self, seconds: float) -> None:
        self.seconds += seconds


class ScriptedGrid(InProcessGrid):
    """Sites may be away, or answer from a certain moment on; what they send may be changed."""

    def __init__(self, agents: Mapping[str, AgentConnection], time: FakeTime) -> None:
        self.site_names = dict(enumerate(sorted(agents), start=1))
        self.agents = agents
        self.time = time
        self.away: set[str] = set()
        self.silent_until: dict[str, float] = {}
        self.asked: list[tuple[str, str]] = []
        contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in self.site_names}
        client_app = make_client_app(lambda context: agents[self.site_names[context.node_id]])
        super().__init__(client_app, contexts)

    def get_node_ids(self) -> list[int]:
        return [node for node, site in self.site_names.items() if site not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        self.asked += [
            (self.site_names[m.metadata.dst_node_id], m.metadata.message_type) for m in messages
        ]
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ready = [key for key in message_ids if self._is_ready(key)]
        return [self._changed(reply) for reply in super().pull_messages(ready)]

    def _is_ready(self, key: str) -> bool:
        if key not in self._waiting:
            return False
        site = self.site_names[self._waiting[key].metadata.dst_node_id]
        return self.time.seconds >= self.silent_until.get(site, 0.0)

    def _changed(self, reply: Message) -> Message:
        agent = self.agents[self.site_names[reply.metadata.src_node_id]]
        is_training = reply.has_content() and "arrays" in reply.content
        if isinstance(agent, ChangedAgent) and is_training:
            agent.change(reply)
        return reply


def scripted_rounds(
    folder: Path, agents: Mapping[str, AgentConnection], **rules: Any
) -> tuple[CheckedRounds, ScriptedGrid]:
    """The real strategy on a grid that a test can disturb; no real time passes."""
    time = FakeTime()
    grid = ScriptedGrid(agents, time)
    rounds = CheckedRounds(
        grid,
        manifest(federation=rules),
        site_names=grid.site_names,
        spool=folder / "spool",
        clock=time.clock(),
    )
    return rounds, grid


def run(
    folder: Path,
    agents: Mapping[str, AgentConnection],
    study: Manifest | None = None,
    *,
    start: float = 0.0,
) -> list[RoundRecord]:
    """Train in ``folder/run`` from equal weights; returns the records as they were reported."""
    (folder / "start.safetensors").write_bytes(save(arrays(start)))
    records: list[RoundRecord] = []
    run_federation(
        study or manifest(),
        agents=agents,
        initial_weights=folder / "start.safetensors",
        out=folder / "run",
        on_round=records.append,
    )
    return records
