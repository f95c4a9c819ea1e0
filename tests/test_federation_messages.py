"""Flower's messages and ours."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from safetensors.numpy import load, save

from federation.messages import (
    content_bytes,
    error_message,
    pack,
    read_arrays,
    read_audit_head,
    read_body,
    read_request,
    reply_message,
    request_message,
    stage_message,
    write_arrays,
)
from segfed.protocol import PROTOCOL_VERSION, AgentError, AgentErrorCode, RoundReply
from tests.federation_samples import arrays

BFLOAT16 = safetensors.torch.save({"a.weight": torch.zeros(2, dtype=torch.bfloat16)})


def a_request(verb="train"):
    return request_message(
        verb, write_arrays(arrays(2.0)), manifest_sha256="f" * 64, round_number=7, node_id=5
    )


def with_config(**changes):
    config = {"protocol": PROTOCOL_VERSION, "manifest-sha256": "f" * 64, "server-round": 7}
    kept = {name: value for name, value in (config | changes).items() if value is not None}
    content = RecordDict({"arrays": write_arrays(arrays()), "config": ConfigRecord(kept)})
    return Message(content, dst_node_id=5, message_type="train")


def test_a_request_arrives_as_it_was_sent():
    request = read_request(a_request(), "train")

    assert (request.manifest_sha256, request.round, request.verb) == ("f" * 64, 7, "train")
    received = load(request.weights)
    assert received.keys() == arrays().keys()
    for name, sent in arrays(2.0).items():
        np.testing.assert_array_equal(received[name], sent)
        assert received[name].dtype == sent.dtype


@pytest.mark.parametrize(
    "wrong",
    [
        {"protocol": PROTOCOL_VERSION + 1},
        {"manifest-sha256": None},
        {"manifest-sha256": 3},
        {"server-round": "seven"},
        {"held-sha256": "../model"},
        {"held-sha256": 3},
    ],
    ids=str,
)
def test_a_request_in_another_protocol_is_refused(wrong):
    with pytest.raises(AgentError) as refused:
        read_request(with_config(**wrong), "train")

    assert refused.value.code == AgentErrorCode.PROTOCOL_MISMATCH


@pytest.mark.parametrize(
    "arrays_sent",
    [
        {"safetensors": Array("uint8", (2,), "numpy.ndarray", b"x")},
        {"safetensors": Array("uint8", (2,), "another kind", b"x")},
        {"a": Array(np.zeros(2, np.float32))},
    ],
)
def test_damaged_arrays_are_refused(arrays_sent):
    message = with_config()
    message.content["arrays"] = ArrayRecord(arrays_sent)

    with pytest.raises(AgentError) as refused:
        read_request(message, "train")

    assert refused.value.code == AgentErrorCode.WEIGHTS_UNUSABLE


def test_a_reply_goes_back_to_the_sender_of_the_request():
    reply = reply_message(RoundReply(save(arrays(3.0)), 4, {"loss": 0.5}), a_request())

    assert reply.metadata.src_node_id == 5
    assert dict(reply.content.metric_records["metrics"]) == {"loss": 0.5, "num-examples": 4}
    assert read_arrays(reply.content.array_records["arrays"])["b.scale"] == 3


def test_a_reply_to_validation_carries_no_arrays():
    reply = reply_message(RoundReply(b"", 4, {}), a_request("validate"))

    assert not reply.content.array_records


def test_an_error_carries_its_code_and_no_text():
    reply = error_message(AgentErrorCode.DATA_UNUSABLE, a_request())

    assert (reply.error.code, reply.error.reason) == (1007, None)


def test_arrays_are_listed_by_name():
    record = write_arrays({"b": np.zeros(1), "a": np.ones(1)})

    assert list(read_arrays(record)) == ["a", "b"]


def test_the_size_of_a_message_is_that_of_its_records():
    # np.save puts a header of 128 bytes before the file; the name has 11 letters.
    record = write_arrays(arrays())

    assert content_bytes(RecordDict({"arrays": record})) == 128 + len(save(arrays())) + 11


def test_a_model_travels_as_one_array_and_none_as_no_array():
    assert len(write_arrays(arrays())) == 1
    assert not write_arrays({})
    assert read_arrays(write_arrays({})) == {}


@pytest.mark.parametrize("content", [b"no safetensors file", BFLOAT16])
def test_a_file_that_numpy_cannot_read_is_refused(content):
    with pytest.raises(ValueError, match="damaged"):
        read_arrays(pack(content))


def test_a_request_carries_how_long_its_sender_waits():
    message = a_request()
    message.metadata.ttl = 12.5

    assert read_request(message, "train").ttl_seconds == 12.5


@pytest.mark.parametrize("stage", [False, True], ids=["train", "keys"])
def test_both_sides_state_the_head_of_their_record(stage):
    head = {"manifest_sha256": "f" * 64, "round_number": 7, "node_id": 5, "server_head": "a" * 64}
    verb = "keys" if stage else "train"
    message = (
        stage_message("keys", b"{}", **head)
        if stage
        else request_message("train", write_arrays(arrays()), **head)
    )
    reply = reply_message(RoundReply(b"", 4, {}, audit_head="b" * 64), message, verb)

    assert read_request(message, verb).server_head == "a" * 64
    assert read_audit_head(reply) == "b" * 64


@pytest.mark.parametrize("head", ["Jane Doe", "b" * 65, 3, b"b" * 64], ids=str)
def test_what_is_no_head_is_not_taken_for_one(head):
    reply = reply_message(RoundReply(b"", 4, {}), a_request())
    reply.content["config"] = ConfigRecord({"audit-head": head})

    assert read_audit_head(reply) is None
    with pytest.raises(AgentError):
        read_request(with_config(**{"server-head": head}), "train")


def a_stage(stage="keys", body=b"{}"):
    return stage_message(stage, body, manifest_sha256="f" * 64, round_number=7, node_id=5)


def test_a_stage_of_secure_aggregation_arrives_and_is_answered_as_it_was_sent():
    message = a_stage("shares", b'{"keys": 1}')
    request = read_request(message, "shares")

    assert message.metadata.message_type == "query.shares"
    assert (request.verb, request.round, request.weights) == ("shares", 7, b'{"keys": 1}')
    reply = reply_message(RoundReply(b'{"shares": 2}', 0, {}), message, "shares")
    assert read_body(reply) == b'{"shares": 2}'
    assert "metrics" not in reply.content


def test_a_masked_update_travels_as_arrays_of_any_shape():
    masked = {"a": np.array(2**64 - 1, np.uint64), "b": np.arange(6, dtype=np.uint64)}

    reply = reply_message(RoundReply(save(masked), 0, {}), a_stage("mask"), "mask")

    found = read_arrays(reply.content["arrays"])
    assert found["a"] == 2**64 - 1
    assert found["a"].shape == ()
    np.testing.assert_array_equal(found["b"], masked["b"])


@pytest.mark.parametrize("body", [None, "text", 3], ids=str)
def test_a_stage_without_bytes_is_refused(body):
    message = a_stage()
    if body is None:
        del message.content["config"]["body"]
    else:
        message.content["config"]["body"] = body

    with pytest.raises(AgentError) as refused:
        read_request(message, "keys")
    assert refused.value.code == AgentErrorCode.PROTOCOL_MISMATCH


def test_a_reply_without_a_body_reads_as_empty():
    assert read_body(reply_message(RoundReply(b"", 0, {}), a_request())) == b""
