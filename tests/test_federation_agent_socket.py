"""The relay's side of the socket."""

from __future__ import annotations

import threading
from dataclasses import replace

import httpx
import numpy as np
import pytest
from flwr.app import Context, RecordDict
from safetensors.numpy import load, save
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from federation import agent_socket
from federation.agent_socket import SocketAgent
from federation.client_app import app
from federation.messages import read_arrays, request_message, write_arrays
from segfed.files import sha256_bytes
from segfed.protocol import PROTOCOL_VERSION, AgentError, AgentErrorCode, RoundReply, RoundRequest
from tests.federation_samples import AddingAgent, FailingAgent, arrays
from tests.socket_samples import serving, short_folder

REQUEST = RoundRequest("f" * 64, 1, "train", save(arrays()), ttl_seconds=60)


@pytest.fixture
def path():
    with short_folder() as folder:
        yield folder / "a.sock"


# httpcore leaves a Unix socket that it cannot connect to the garbage collector.
unclosed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Clock:
    """Time that passes only while somebody sleeps; something happens after each sleep."""

    def __init__(self, *events):
        self.now = 0.0
        self.events = list(events)
        self.pauses = []

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.pauses.append(seconds)
        if self.events:
            self.events.pop(0)()


def asking(path, clock):
    return SocketAgent(path, clock=clock.time, sleep=clock.sleep)


def test_the_socket_gives_what_the_agent_in_process_gives(path):
    with serving(AddingAgent(1), path):
        found = [SocketAgent(path).answer(job(verb)) for verb in ("train", "validate")]

    assert found == [AddingAgent(1).answer(job(verb)) for verb in ("train", "validate")]


def test_the_heads_of_both_records_pass_through_the_socket(path):
    class Recording(AddingAgent):
        def answer(self, request):
            return replace(super().answer(request), audit_head="b" * 64)

    agent = Recording(1)
    with serving(agent, path):
        reply = SocketAgent(path).answer(replace(REQUEST, server_head="a" * 64))
        with pytest.raises(AgentError):
            SocketAgent(path).answer(replace(REQUEST, server_head="Jane Doe"))

    assert [request.server_head for request in agent.requests] == ["a" * 64]
    assert reply.audit_head == "b" * 64


def job(verb):
    return RoundRequest("f" * 64, 1, verb, save(arrays()), ttl_seconds=60)


def test_weights_that_are_sent_in_pieces_arrive_whole(path):
    weights = np.random.default_rng(0).bytes(1_000_003)

    class Echo:
        def answer(self, request):
            return RoundReply(request.weights, 1, {})

    with serving(Echo(), path):
        reply = SocketAgent(path).answer(RoundRequest("f" * 64, 1, "train", weights, 60))

    assert reply.weights == weights


def test_a_model_s_hash_passes_through_the_socket_in_place_of_the_model(path):
    agent = AddingAgent(1, scored=save(arrays(2.0)))
    asked = RoundRequest("f" * 64, 1, "train", b"", 60, held_sha256=sha256_bytes(agent.scored))

    with serving(agent, path):
        reply = SocketAgent(path).answer(asked)

    assert load(reply.weights)["b.scale"] == 3
    assert agent.requests == [asked]


def test_flower_s_app_finds_the_socket_in_the_node_s_configuration(path):
    message = request_message(
        "train", write_arrays(arrays()), manifest_sha256="f" * 64, round_number=1, node_id=5
    )
    context = Context(1, 5, {"agent-socket": str(path)}, RecordDict(), {})

    with serving(AddingAgent(1), path):
        reply = app(message, context)

    assert read_arrays(reply.content.array_records["arrays"])["b.scale"] == 1


def test_a_node_without_a_socket_answers_with_a_code():
    message = request_message(
        "train", write_arrays(arrays()), manifest_sha256="f" * 64, round_number=1, node_id=5
    )

    assert app(message, Context(1, 5, {}, RecordDict(), {})).error.code == 1011


def test_the_agent_s_code_passes_on(path):
    agent = FailingAgent(AgentErrorCode.TOO_FEW_CASES)
    with serving(agent, path), pytest.raises(AgentError) as failed:
        SocketAgent(path).answer(REQUEST)

    assert failed.value.code == AgentErrorCode.TOO_FEW_CASES


def test_weights_that_are_too_large_come_back_as_unusable(path):
    tiny = serving(AddingAgent(1), path, largest_message_bytes=10)
    with tiny, pytest.raises(AgentError) as failed:
        SocketAgent(path).answer(REQUEST)

    assert failed.value.code == AgentErrorCode.WEIGHTS_UNUSABLE


def test_a_relay_of_the_wrong_user_gives_up_at_once(path, caplog):
    clock = Clock()
    with serving(AddingAgent(1), path, peers=(4_000_000,)), pytest.raises(AgentError) as failed:
        asking(path, clock).answer(REQUEST)

    assert failed.value.code == AgentErrorCode.INTERNAL
    assert clock.pauses == []
    assert "sends this user away" in caplog.text


@unclosed
def test_an_agent_that_is_away_is_awaited_until_the_deadline(path, caplog):
    clock = Clock()

    with pytest.raises(AgentError) as failed:
        asking(path, clock).answer(REQUEST)

    assert failed.value.code == AgentErrorCode.INTERNAL
    assert clock.now == pytest.approx(60)
    assert clock.pauses[0] < clock.pauses[1] <= max(clock.pauses) == 0.5
    assert "no reply within 60 seconds" in caplog.text


@unclosed
def test_an_agent_that_comes_late_is_found(path):
    servers = []

    def start():
        servers.append(serving(AddingAgent(1), path))
        servers[0].__enter__()

    reply = asking(path, Clock(start)).answer(REQUEST)
    servers[0].__exit__(None, None, None)

    assert load(reply.weights)["b.scale"] == 1


def test_an_agent_that_forgot_the_job_gets_it_again(path):
    go, started = threading.Event(), threading.Event()

    class Slow(AddingAgent):
        def answer(self, request):
            started.set()
            assert go.wait(60)
            return super().answer(request)

    def forget():
        assert started.wait(60)
        desk._job = None
        go.set()

    agent = Slow(1)
    with serving(agent, path) as desk:
        clock = Clock(forget)
        reply = SocketAgent(path, sleep=clock.sleep).answer(REQUEST)

    assert load(reply.weights)["b.scale"] == 1
    assert len(agent.requests) == 2


def test_a_busy_agent_is_asked_again_when_it_is_free(path):
    go = threading.Event()

    class Busy(AddingAgent):
        def answer(self, request):
            assert go.wait(60)
            return super().answer(request)

    agent = Busy(1)
    with serving(agent, path) as desk:
        desk.submit(job("validate"), "another")
        # The clock stands still: only the agent's answer ends the wait.
        reply = SocketAgent(path, sleep=lambda _: go.set()).answer(REQUEST)

    assert isinstance(reply, RoundReply)
    assert [request.verb for request in agent.requests] == ["validate", "train"]


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        ({"protocol": [1, PROTOCOL_VERSION + 1], "busy": False}, AgentErrorCode.PROTOCOL_MISMATCH),
        ({"protocol": [], "busy": False}, AgentErrorCode.PROTOCOL_MISMATCH),
    ],
)
def test_an_agent_of_another_protocol_is_a_mismatch(path, monkeypatch, greeting, code):
    stranger = Starlette(routes=[Route("/", lambda _request: JSONResponse(greeting))])
    monkeypatch.setattr("tests.socket_samples.create_app", lambda *_, **__: stranger)

    with serving(AddingAgent(1), path), pytest.raises(AgentError) as failed:
        SocketAgent(path).answer(REQUEST)

    assert failed.value.code == code


@pytest.mark.parametrize("content", [{"code": "path/jane"}, {"code": 4711}, ["jane"], {}], ids=str)
def test_a_refusal_in_other_words_is_internal(content):
    response = httpx.Response(500, json=content)

    with pytest.raises(AgentError) as failed:
        agent_socket._checked(response)

    assert failed.value.code == AgentErrorCode.INTERNAL
