"""Between Flower's messages and the protocol of relay and agent. Light: no torch.

A request holds the records ``arrays`` (the global model, unless the site has it and its hash in
``config`` will do) and ``config``; a reply holds ``arrays`` (after training) and ``metrics``. In
the stages of secure aggregation the request and the small replies are bytes in ``config``, which
only agent and server read. Both sides state the head of what they recorded there, too. Nothing else
is sent, and nothing is ever unpickled.
"""

from __future__ import annotations

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from segfed.files import sha256_bytes
from segfed.protocol import (
    PROTOCOL_VERSION,
    STAGES,
    AgentError,
    AgentErrorCode,
    RoundReply,
    RoundRequest,
    Stage,
    Verb,
    is_sha256,
)

Weights = dict[str, NDArray[np.generic]]
"""Arrays by parameter name, in the order of the names."""

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
N_CASES = "num-examples"
_BODY, _FILE = "body", "safetensors"
_AUDIT_HEAD, _SERVER_HEAD, _HELD = "audit-head", "server-head", "held-sha256"
_MESSAGE_TYPES: dict[Verb, str] = {
    "train": MessageType.TRAIN,
    "validate": MessageType.EVALUATE,
    **{stage: f"{MessageType.QUERY}.{stage}" for stage in STAGES},
}


def request_message(
    verb: Verb,
    arrays: ArrayRecord,
    *,
    manifest_sha256: str,
    round_number: int,
    node_id: int,
    server_head: str = "",
    held_sha256: str = "",
) -> Message:
    """The server's message that asks one site for one job.

    Args:
        verb: The job.
        arrays: The global model, unless ``held_sha256`` names it, and what goes with it.
        manifest_sha256: Names the study.
        round_number: Of the study, counted from 1.
        node_id: Of the site's node.
        server_head: Head of the server's record; empty where it keeps none.
        held_sha256: Hash of the model that the site scored last and is to start from.
    """
    config = _config(manifest_sha256, round_number, server_head)
    if held_sha256:
        config[_HELD] = held_sha256
    content = RecordDict({ARRAYS: arrays, CONFIG: config})
    return Message(content, dst_node_id=node_id, message_type=_MESSAGE_TYPES[verb])


def stage_message(
    stage: Stage,
    body: bytes,
    *,
    manifest_sha256: str,
    round_number: int,
    node_id: int,
    server_head: str = "",
) -> Message:
    """The server's message that asks one site for one stage of secure aggregation."""
    config = _config(manifest_sha256, round_number, server_head)
    config[_BODY] = body
    content = RecordDict({CONFIG: config})
    return Message(content, dst_node_id=node_id, message_type=_MESSAGE_TYPES[stage])


def read_request(message: Message, verb: Verb) -> RoundRequest:
    """The job that a message asks for, as the relay hands it to the agent.

    Raises:
        AgentError: If the server speaks another protocol version, or the message is malformed.
    """
    try:
        config = message.content.config_records[CONFIG]
        version, manifest_sha256 = config["protocol"], config["manifest-sha256"]
        round_number = config["server-round"]
        content = config[_BODY] if verb in STAGES else message.content.array_records[ARRAYS]
    except (KeyError, ValueError):
        raise AgentError(AgentErrorCode.PROTOCOL_MISMATCH) from None
    if version != PROTOCOL_VERSION:
        raise AgentError(AgentErrorCode.PROTOCOL_MISMATCH)
    if not isinstance(manifest_sha256, str) or not isinstance(round_number, int):
        raise AgentError(AgentErrorCode.PROTOCOL_MISMATCH)
    try:
        body = unpack(content) if isinstance(content, ArrayRecord) else content
    except ValueError:
        raise AgentError(AgentErrorCode.WEIGHTS_UNUSABLE) from None
    if not isinstance(body, bytes):
        raise AgentError(AgentErrorCode.PROTOCOL_MISMATCH)
    head, held = config.get(_SERVER_HEAD, ""), config.get(_HELD, "")
    if any(text and not is_sha256(text) for text in (head, held)):
        raise AgentError(AgentErrorCode.PROTOCOL_MISMATCH)
    return RoundRequest(
        manifest_sha256,
        round_number,
        verb,
        body,
        ttl_seconds=message.metadata.ttl,
        server_head=str(head),
        held_sha256=str(held),
    )


def reply_message(reply: RoundReply, request: Message, verb: Verb = "train") -> Message:
    """An agent's answer as the relay sends it."""
    config = ConfigRecord({_AUDIT_HEAD: reply.audit_head} if reply.audit_head else {})
    if verb in STAGES and verb != "mask":
        config[_BODY] = reply.weights
        return Message(RecordDict({CONFIG: config}), reply_to=request)
    content = RecordDict({METRICS: MetricRecord({**reply.metrics, N_CASES: reply.n_cases})})
    if config:
        content[CONFIG] = config
    if reply.weights:
        content[ARRAYS] = pack(reply.weights)
    return Message(content, reply_to=request)


def error_message(code: AgentErrorCode, request: Message) -> Message:
    """A site's failure as the relay sends it: the code alone."""
    return Message(Error(int(code)), reply_to=request)


def read_body(reply: Message) -> bytes:
    """A site's small answer in a stage of secure aggregation; empty where it holds none."""
    record = reply.content.config_records.get(CONFIG)
    body = None if record is None else record.get(_BODY)
    return body if isinstance(body, bytes) else b""


def read_audit_head(reply: Message) -> str | None:
    """Head of a site's audit log as its reply states it; None where it states none."""
    record = reply.content.config_records.get(CONFIG) if reply.has_content() else None
    head = None if record is None else record.get(_AUDIT_HEAD)
    return head if is_sha256(head) else None


def pack(content: bytes) -> ArrayRecord:
    """A safetensors file as Flower's record; nothing as an empty one.

    Flower moves each array by calls of its own, which it signs and notes in a database: 19 MB in
    twenty-two arrays cost the server's process about twice what they cost as one.
    """
    return ArrayRecord({_FILE: Array(np.frombuffer(content, np.uint8))} if content else {})


def unpack(record: ArrayRecord) -> bytes:
    """The bytes of the safetensors file that a record holds, whatever they are; empty if none.

    Raises:
        ValueError: If the record holds anything else, or an array that NumPy cannot read.
    """
    if set(record) - {_FILE}:
        raise ValueError(f"Found {len(record)} arrays, expected one named {_FILE}.")
    try:
        return record[_FILE].numpy().tobytes() if record else b""
    except Exception as error:  # noqa: BLE001 - a hostile header makes NumPy raise nearly anything
        raise ValueError(f"The array is damaged ({type(error).__name__}).") from None


def read_arrays(record: ArrayRecord) -> Weights:
    """Flower's record as arrays, in the order of their names.

    Raises:
        ValueError: As `unpack`, or if the file is damaged or of types that NumPy lacks.
    """
    content = unpack(record)
    try:
        arrays = load(content) if content else {}
    except (SafetensorError, KeyError):
        raise ValueError("The arrays are damaged.") from None
    return {name: arrays[name] for name in sorted(arrays)}


def _config(manifest_sha256: str, round_number: int, server_head: str) -> ConfigRecord:
    """What every request says of itself."""
    config = ConfigRecord(
        {
            "protocol": PROTOCOL_VERSION,
            "manifest-sha256": manifest_sha256,
            "server-round": round_number,
        }
    )
    if server_head:
        config[_SERVER_HEAD] = server_head
    return config


def write_arrays(weights: Weights) -> ArrayRecord:
    """Arrays as Flower's record."""
    return pack(save(weights) if weights else b"")


def weights_sha256(weights: Weights) -> str:
    """The hash of a model as the relays hand it to the agents."""
    return sha256_bytes(save(weights))


def content_bytes(content: RecordDict) -> int:
    """Bytes of a message's records, without the envelope of the transport."""
    return sum(record.count_bytes() for record in content.values())
