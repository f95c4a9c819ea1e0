"""What relay and agent, and launcher and federation, say to each other. Light: no torch.

Weights travel as safetensors bytes, everything else as JSON; nothing is ever unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, PositiveInt

from segfed.files import sha256_json
from segfed.settings import Settings

PROTOCOL_VERSION = 1
"""Raised whenever a relay and an agent of different versions would misunderstand each other."""

Arm = Literal["manual", "assisted"]
Split = Literal["warmup", "train", "validation", "test"]
Verb = Literal["train", "validate"]


class Manifest(Settings):
    """What one federated training asks of every site; the hospital approves its hash."""

    study: str
    task: str
    plan: dict[str, Any]
    """The resolved network plan, as the engine writes it."""

    arm: Arm
    """Which labels of the training cases count."""

    train_split: Split
    """``warmup`` for the proposing model, ``train`` for the study itself."""

    seed: int
    rounds: PositiveInt
    steps_per_round: PositiveInt
    weighting: Literal["cases"] = "cases"

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON; names the study to relay and agent."""
        return sha256_json(self.model_dump(mode="json"))


@dataclass(frozen=True)
class RoundRequest:
    """One job for a site's agent.

    Two requests with the same key are the same job: the agent answers the second from store.
    """

    manifest_sha256: str
    round: int
    verb: Verb
    weights: bytes
    """The global model, as safetensors."""


@dataclass(frozen=True)
class RoundReply:
    """What a site lets out: weights, counts and metric values, and no free text."""

    weights: bytes
    """The site's model after local training, as safetensors; empty for ``validate``."""

    n_cases: int
    """Labelled cases behind the weights or the metrics."""

    metrics: dict[str, float]
    """Values by declared name: ``loss``, ``seconds``, ``steps``, ``dice_<structure>``."""


class AgentConnection(Protocol):
    """The relay's view of a site's agent: in the same process, or behind a socket."""

    def answer(self, request: RoundRequest) -> RoundReply:
        """Run the job, or return its stored reply."""


class FederationJob(Settings):
    """Everything that a federation process needs to simulate one training on one machine."""

    manifest: Manifest
    sites: Annotated[tuple[Path, ...], Field(min_length=2)]
    """Site folders that train; one site alone is not a federation."""

    initial_weights: Path
    """Safetensors from which round 1 starts."""

    out: Path
    """Run folder: ``round_NNN.safetensors``, ``state.json``, ``metrics.jsonl``."""

    device: str = "auto"


class RoundRecord(Settings):
    """One line of ``metrics.jsonl``: what a round brought."""

    round: int
    loss: float
    """Mean training loss over the sites, weighted as the aggregation is."""

    validation_dice: float | None
    """Mean over sites of the mean over structures; ``None`` where no site could score it."""

    sites: dict[str, dict[str, float | None]]
    """Per site: ``n_cases``, ``loss``, ``seconds``, ``bytes_down``, ``bytes_up``, Dice values."""

    seconds: float


class FederationState(Settings):
    """``state.json``: how far a run came, written atomically after each round."""

    manifest_sha256: str
    rounds_done: int
    best_round: int | None
    """The round whose mean validation Dice is highest; the last one where none was scored."""

    finished: bool
