"""The relay."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flwr.app import Context, RecordDict

from federation.client_app import make_client_app
from federation.messages import read_body, request_message, stage_message, write_arrays
from segfed.protocol import AgentErrorCode, RoundReply
from tests.federation_samples import AddingAgent, FailingAgent, arrays

CONTEXT = Context(1, 5, {"site-name": "north"}, RecordDict(), {})


def relay(agent, verb="train"):
    """What the relay of an agent answers to a first request."""
    message = request_message(
        verb, write_arrays(arrays()), manifest_sha256="f" * 64, round_number=1, node_id=5
    )
    return make_client_app(lambda _context: agent)(message, CONTEXT)


class RaisingAgent:
    def answer(self, _request):
        raise ValueError("/hospital/patients/jane_doe.nii.gz")


@pytest.mark.parametrize("verb", ["train", "validate"])
def test_a_request_reaches_the_agent_with_its_verb(verb):
    agent = AddingAgent(step=1)

    relay(agent, verb)

    assert [request.verb for request in agent.requests] == [verb]


def test_every_stage_of_secure_aggregation_reaches_the_agent():
    class Echo:
        def answer(self, request):
            return RoundReply(request.verb.encode() + request.weights, 0, {})

    for stage in ("keys", "shares", "unmask"):
        message = stage_message(
            stage, b" body", manifest_sha256="f" * 64, round_number=1, node_id=5
        )
        reply = make_client_app(lambda _context: Echo())(message, CONTEXT)
        assert read_body(reply) == f"{stage} body".encode()


def test_the_agent_is_found_by_the_context_of_the_node():
    seen = []

    def connect(context):
        seen.append(context.node_config["site-name"])
        return AddingAgent(step=1)

    message = request_message(
        "train", write_arrays(arrays()), manifest_sha256="f" * 64, round_number=1, node_id=5
    )
    make_client_app(connect)(message, CONTEXT)

    assert seen == ["north"]


def test_a_refusal_passes_on_as_its_code():
    reply = relay(FailingAgent(AgentErrorCode.STUDY_NOT_ALLOWED))

    assert (reply.error.code, reply.error.reason) == (1004, None)


def test_an_exception_s_text_never_leaves(caplog):
    reply = relay(RaisingAgent())

    assert (reply.error.code, reply.error.reason) == (1011, None)
    assert "jane_doe" in caplog.text


def test_importing_the_relay_loads_neither_torch_nor_monai_and_sets_flower_s_switches():
    code = (
        "import os, sys, federation.client_app;"
        "assert not {'torch', 'monai', 'nibabel'} & sys.modules.keys();"
        "assert os.environ['FLWR_TELEMETRY_ENABLED'] == '0';"
        "assert os.environ['FLWR_DISABLE_UPDATE_CHECK'] == '1'"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
