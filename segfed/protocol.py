"""What relay and agent, and launcher and federation, say to each other. Light: no torch.

Weights travel as safetensors bytes, everything else as JSON; nothing is ever unpickled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, TypeGuard, get_args

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from segfed.errors import FederationError
from segfed.files import sha256_bytes, sha256_json
from segfed.rules import FederationRules, PrivacyRules, check_together
from segfed.settings import Settings

PROTOCOL_VERSION = 2
"""Raised whenever a relay and an agent of different versions would misunderstand each other."""

SUPPORTED_VERSIONS = (PROTOCOL_VERSION,)
"""Versions of the agent's socket that this release speaks; the newest common one is used."""

_FIRST_HEAD = "0" * 64
_SHA256 = re.compile(r"[0-9a-f]{64}")

SERVER_FOLDER_VARIABLE = "SEGFED_SERVER_FOLDER"
"""The folder of a federation's server, in the environment of the processes that it starts."""

SOCKET_KEY = "agent-socket"
"""Names the socket of a site's agent in the configuration of the site's own node."""

MANIFEST_KEY = "manifest-sha256"
"""Names the study in Flower's run config, which holds nothing else."""

CORRECTION_PREFIX = "correction."
"""Before the names of SCAFFOLD's tensors that a request to train may hold beside the model's."""

Arm = Literal["manual", "assisted"]
"""How a reader was asked to label a case."""

ArmChoice = Literal["manual", "assisted", "mixed"]
"""Which labels a training takes; ``mixed`` takes one of either arm for each case."""

Engine = Literal["in-process", "ray"]
Split = Literal["warmup", "train", "validation", "test"]
Stage = Literal["keys", "shares", "mask", "unmask"]
"""Stages of secure aggregation, in order, between ``train`` and ``validate``."""

Verb = Literal["train", "validate", "keys", "shares", "mask", "unmask"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class Manifest(Settings):
    """What one federated training asks of every site; the hospital approves its hash."""

    study: str
    task: str
    plan: dict[str, Any]
    """The resolved network plan, as the engine writes it."""

    arm: ArmChoice
    """Which labels of the training cases count."""

    train_split: Split
    """``warmup`` for the proposing model, ``train`` for the study itself."""

    bundle_sha256: str = ""
    """Hash of the code that server and relays run, as its sender declares it: nobody attests it.
    Empty in a simulation, which runs what is installed."""

    seed: int
    rounds: PositiveInt
    steps_per_round: PositiveInt
    """Steps of every site in every round, at most."""

    seconds_per_round: PositiveFloat | None = None
    """A site begins no step after so many seconds of a round: a slow one sends what it has."""

    federation: FederationRules = FederationRules()
    """What the server does with the updates."""

    privacy: PrivacyRules = PrivacyRules()
    """What the server sees of them."""

    @model_validator(mode="after")
    def _rules_agree(self) -> Self:
        check_together(self.federation, self.privacy, seconds_per_round=self.seconds_per_round)
        return self

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
    """The global model, as safetensors, and for ``scaffold`` the site's correction with it; in a
    stage of secure aggregation its request, as JSON. Without the model, and so mostly empty, where
    ``held_sha256`` names it."""

    ttl_seconds: float = field(default=math.inf, compare=False)
    """How long somebody waits for the reply; no part of the key."""

    server_head: str = field(default="", compare=False)
    """Head of the server's own record, which the site notes; no part of the key. Empty where the
    server keeps none."""

    held_sha256: str = ""
    """In a request to train, the hash of the model that the site scored last, from which it shall
    start; empty where the model comes in ``weights``."""

    @property
    def job_id(self) -> str:
        """Hash of the job's key."""
        content = [sha256_bytes(self.weights), self.held_sha256]
        return sha256_json([self.manifest_sha256, self.round, self.verb, *content])


@dataclass(frozen=True)
class RoundReply:
    """What a site lets out: weights, counts and metric values, and no free text."""

    weights: bytes
    """The site's model after local training, as safetensors; empty for ``validate``.

    With secure aggregation it is empty for ``train``, too: the masked update follows in the stage
    ``mask``, and the other stages hold their answer here, as JSON.
    """

    n_cases: int
    """Labelled cases behind the weights or the metrics; 0 where the site scores too few."""

    metrics: dict[str, float]
    """Values by declared name: ``loss``, ``seconds``, ``steps``, ``epsilon`` (what the study has
    spent of its privacy budget at the site), ``dice_<structure>``.

    A value that the site's policy withholds, or that is not a number, is left out.
    """

    audit_head: str = field(default="", compare=False)
    """Head of the site's audit log with this reply in it: set as it leaves, and never stored, so
    that the same reply sent twice has two."""


class AgentErrorCode(IntEnum):
    """All that a site says about a failure: exception texts can name patients and paths.

    Flower's own codes are below 100. The reason in full stands in the log of the site.
    """

    PROTOCOL_MISMATCH = 1001
    UNKNOWN_STUDY = 1002
    UNKNOWN_ROUND = 1003
    STUDY_NOT_ALLOWED = 1004
    TASK_MISMATCH = 1005
    TOO_FEW_CASES = 1006
    DATA_UNUSABLE = 1007
    WEIGHTS_UNUSABLE = 1008
    TRAINING_FAILED = 1009
    EGRESS_REFUSED = 1010
    INTERNAL = 1011
    MODEL_NOT_HELD = 1012
    STAGE_REFUSED = 1020
    BUDGET_SPENT = 1030


_MEANINGS = {
    AgentErrorCode.PROTOCOL_MISMATCH: "site and server run versions that do not fit together",
    AgentErrorCode.UNKNOWN_STUDY: "the site has not approved a study with this manifest",
    AgentErrorCode.UNKNOWN_ROUND: "the study has no such round, or the site is past it",
    AgentErrorCode.STUDY_NOT_ALLOWED: "the site's policy does not allow the study",
    AgentErrorCode.TASK_MISMATCH: "the study's plan does not fit the site's task",
    AgentErrorCode.TOO_FEW_CASES: "the site has fewer training cases than its policy asks for",
    AgentErrorCode.DATA_UNUSABLE: "a case or label at the site cannot be used",
    AgentErrorCode.WEIGHTS_UNUSABLE: "the weights do not fit the study's network",
    AgentErrorCode.TRAINING_FAILED: "training failed at the site",
    AgentErrorCode.EGRESS_REFUSED: "the reply held something that may not leave the site",
    AgentErrorCode.INTERNAL: "something unexpected failed at the site",
    AgentErrorCode.MODEL_NOT_HELD: "the site no longer has the model that it scored",
    AgentErrorCode.STAGE_REFUSED: "the site refuses this step of secure aggregation",
    AgentErrorCode.BUDGET_SPENT: "the site's privacy budget is spent",
}


class AgentError(FederationError):
    """A site's refusal or failure, as a code with a fixed meaning and nothing else."""

    def __init__(self, code: AgentErrorCode) -> None:
        """Keep the code; the text follows from it."""
        super().__init__(f"{_MEANINGS[code]} (code {int(code)})")
        self.code = code


class AgentGreeting(Settings):
    """``GET /`` of an agent: which versions it speaks, and whether it works."""

    protocol: tuple[int, ...]
    busy: bool


class JobAnswer(Settings):
    """What an agent says of a job; the weights of one that is done come by themselves."""

    job: str
    state: Literal["running", "done", "failed"]
    code: int = 0
    """``AgentErrorCode`` of a job that failed."""

    n_cases: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    weights_bytes: int = 0
    audit_head: str = ""


def is_sha256(value: object) -> TypeGuard[str]:
    """Whether something from outside can be a hash, as is the head of a chain: 64 lower-case
    hexadecimal digits."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def common_version(offered: Iterable[int]) -> int:
    """The newest version that both sides speak.

    Raises:
        AgentError: If there is none.
    """
    common = set(SUPPORTED_VERSIONS) & set(offered)
    if not common:
        raise AgentError(AgentErrorCode.PROTOCOL_MISMATCH)
    return max(common)


class AgentConnection(Protocol):
    """The relay's view of a site's agent: in the same process, or behind a socket."""

    def answer(self, request: RoundRequest) -> RoundReply:
        """Run the job, or return its stored reply.

        Raises:
            AgentError: If the site refuses the job or fails at it; no other exception leaves.
        """


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
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads that compute on the CPU; as many as there are cores unless stated, and with the
    engine ``ray`` one for each site that trains."""

    engine: Engine = "in-process"
    """Who runs the sites: one process, one after the other, or Flower's Ray engine, side by side
    on all cores or GPUs."""


class ServerJob(Settings):
    """``job.json`` of a submitted study, in the server's own folder; no site ever sees it."""

    manifest: Manifest
    sites: dict[str, int]
    """Number of each site's node, as the server itself registered it: names cannot be forged."""


@dataclass(frozen=True)
class StudyFolder:
    """Where the server keeps what belongs to one submitted study."""

    root: Path

    @classmethod
    def of(cls, server_folder: Path, manifest_sha256: str) -> StudyFolder:
        """The folder of a study that has this manifest."""
        return cls(server_folder / "studies" / manifest_sha256)

    @property
    def job(self) -> Path:
        """``ServerJob`` as JSON."""
        return self.root / "job.json"

    @property
    def start(self) -> Path:
        """Safetensors from which round 1 starts."""
        return self.root / "start.safetensors"

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """Locked by the one process that works on the run."""
        return self.root / "server.lock"

    @property
    def run_id(self) -> Path:
        """Flower's number of the last run."""
        return self.root / "run_id"

    @property
    def begun(self) -> Path:
        """Flower's number of the last run whose process has begun."""
        return self.root / "begun"

    @property
    def problem(self) -> Path:
        """Why the last process failed; missing where it did not."""
        return self.root / "problem.txt"


class RoundRecord(Settings):
    """One line of ``metrics.jsonl``: what a round brought."""

    round: int
    loss: float | None
    """Mean training loss over the sites, weighted by their cases, or steps where these weigh; None
    where no site states it."""

    validation_dice: float | None
    """Mean over sites of the mean over structures; ``None`` where no site could score it."""

    sites: dict[str, dict[str, float | None]]
    """Per site: ``n_cases``, ``n_validation_cases``, ``steps``, ``loss``, ``seconds`` (training
    and validation), ``update_norm``, ``bytes_down``, ``bytes_up``, Dice values, and how its update
    lies to the others' (``norm_ratio``, ``cosine``, ``nearest_distance``); None where a site did
    not state it. ``epsilon`` where the study has a privacy budget: what it has spent there."""

    seconds: float

    dropped: dict[str, str] = Field(default_factory=dict)
    """Sites whose update or metrics do not count in this round, and why."""

    suspects: dict[str, str] = Field(default_factory=dict)
    """Sites whose update looked wrong beside the others', and why: a reason to ask, no proof."""

    audit_heads: dict[str, str] = Field(default_factory=dict)
    """Per site, the head of its audit log as the last reply of the round stated it."""


def record_heads(records: Iterable[RoundRecord]) -> tuple[str, ...]:
    """Heads of the server's record after none, one, two, … of its rounds.

    Each is the SHA-256 of the one before and the round's canonical JSON without what has its
    default, so that the fields of later versions change no head of an older run.
    """
    heads = [_FIRST_HEAD]
    for record in records:
        content = record.model_dump(mode="json", exclude_defaults=True)
        heads.append(sha256_json([heads[-1], content]))
    return tuple(heads)


def most_spent(records: Iterable[RoundRecord]) -> float | None:
    """The largest epsilon that a site stated, which holds all rounds before; None without any."""
    values = [site.get("epsilon") for record in records for site in record.sites.values()]
    return max((value for value in values if value is not None), default=None)


class FederationState(Settings):
    """``state.json``: how far a run came, written atomically after each round."""

    manifest_sha256: str
    rounds_done: int
    best_round: int | None
    """The round whose mean validation Dice is highest; the last one where none was scored."""

    finished: bool
    ended: str = ""
    """Why the run ended before its last round; empty where it did not, or by early stopping."""
