"""Between Flower's messages and the protocol of relay and agent. Light: no torch.

A request holds the records ``arrays`` (the global model) and ``config``; a reply holds ``arrays``
(after training) and ``metrics``. Nothing else is sent, and nothing is ever unpickled.
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

from segfed.protocol import (
    PROTOCOL_VERSION,
    AgentError,
    AgentErrorCode,
    RoundReply,
    RoundRequest,
    Verb,
)

Weights = dict[str, NDArray[np.generic]]
"""Arrays by parameter name, in the order of the names."""

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
N_CASES = "num-examples"
_MESSAGE_TYPES: dict[Verb, str] = {"train": MessageType.TRAIN, "validate": MessageType.EVALUATE}


def request_message(
    verb: Verb, arrays: ArrayRecord, *, manifest_sha256: str, round_number: int, node_id: int
) -> Message:
    """The server's message that asks one site for one job."""
    config = ConfigRecord(
        {
            "protocol": PROTOCOL_VERSION,
            "manifest-sha256": manifest_sha256,
            "server-round": round_number,
        }
    )
    content = RecordDict({ARRAYS: arrays, CONFIG: config})
    return Message(content, dst_node_id=node_id, message_type=_MESSAGE_TYPES[verb])


def read_request(message: Message, verb: Verb) -> RoundRequest:
    """The job that a message asks for, as the relay hands it to the agent.

    Raises:
        AgentError: If the server speaks another protocol version, or the message is malformed.
    """
    try:
        config = message.content.config_records[CONFIG]
        version, manifest_sha256 = config["protocol"], config["manifest-sha256"]
        round_number = config["server-round"]
        arrays = message.content.array_records[ARRAYS]
    except (KeyError, ValueError):
        raise AgentError(AgentErrorCode.PROTOCOL_MISMATCH) from None
    if version != PROTOCOL_VERSION:
        raise AgentError(AgentErrorCode.PROTOCOL_MISMATCH)
    if not isinstance(manifest_sha256, str) or not isinstance(round_number, int):
        raise AgentError(AgentErrorCode.PROTOCOL_MISMATCH)
    try:
        weights = save(read_arrays(arrays))
    except (TypeError, ValueError, SafetensorError):
        raise AgentError(AgentErrorCode.WEIGHTS_UNUSABLE) from None
    return RoundRequest(
        manifest_sha256, round_number, verb, weights, ttl_seconds=message.metadata.ttl
    )


def reply_message(reply: RoundReply, request: Message) -> Message:
    """An agent's answer as the relay sends it."""
    content = RecordDict({METRICS: MetricRecord({**reply.metrics, N_CASES: reply.n_cases})})
    if reply.weights:
        content[ARRAYS] = write_arrays(load(reply.weights))
    return Message(content, reply_to=request)


def error_message(code: AgentErrorCode, request: Message) -> Message:
    """A site's failure as the relay sends it: the code alone."""
    return Message(Error(int(code)), reply_to=request)


def read_arrays(record: ArrayRecord) -> Weights:
    """Flower's record as arrays.

    Raises:
        TypeError: If an array is of a kind that Flower cannot turn into NumPy.
        ValueError: If an array's bytes are damaged.
    """
    return {name: record[name].numpy() for name in sorted(record)}


def write_arrays(weights: Weights) -> ArrayRecord:
    """Arrays as Flower's record."""
    return ArrayRecord({name: Array(weights[name]) for name in weights})


def content_bytes(content: RecordDict) -> int:
    """Bytes of a message's records, without the envelope of the transport."""
    return sum(record.count_bytes() for record in content.values())
