"""Jobs behind HTTP, on a real socket."""

from __future__ import annotations

import json
import logging
import socket
import threading

import httpx
import pytest

from segfed.protocol import SUPPORTED_VERSIONS, RoundReply
from tests.federation_samples import AddingAgent, FailingAgent
from tests.socket_samples import serving, short_folder, until

QUERY = {"manifest": "f" * 64, "round": "1", "verb": "train"}


class HeldAgent:
    """Works until it is let go."""

    def __init__(self):
        self.go = threading.Event()
        self.n_jobs = 0

    def answer(self, request):
        self.n_jobs += 1
        assert self.go.wait(60)
        return RoundReply(b"trained " + request.weights, 4, {"loss": 0.5})


class BrokenAgent:
    def answer(self, _request):
        raise ValueError("/hospital/patients/jane_doe.nii.gz")


@pytest.fixture
def held():
    """An agent that works until it is let go, its client and its desk."""
    agent = HeldAgent()
    with short_folder() as folder, serving(agent, folder / "a.sock") as desk:
        with client_of(folder / "a.sock") as client:
            yield agent, client, desk
        agent.go.set()


def client_of(path):
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://agent")


def post(client, weights=b"global", **changes):
    return client.post("/v2/jobs", params=QUERY | changes, content=weights)


def finished(client, job):
    """The job's state once it has ended."""
    until(lambda: client.get(f"/v2/jobs/{job}").json()["state"] != "running")
    return client.get(f"/v2/jobs/{job}").json()


def test_the_agent_answers_while_it_works(held):
    agent, client, _ = held

    job = post(client).json()["job"]

    assert client.get("/").json() == {"protocol": list(SUPPORTED_VERSIONS), "busy": True}
    assert client.get(f"/v2/jobs/{job}").json()["state"] == "running"
    assert client.get(f"/v2/jobs/{job}/weights").status_code == 404
    agent.go.set()
    until(lambda: not client.get("/").json()["busy"])


@pytest.mark.parametrize("verb", ["keys", "shares", "mask", "unmask"])
def test_stages_of_secure_aggregation_are_jobs(held, verb):
    agent, client, _ = held
    agent.go.set()

    job = post(client, b"{}", verb=verb).json()["job"]

    assert finished(client, job)["state"] == "done"
    assert client.get(f"/v2/jobs/{job}/weights").content == b"trained {}"


def test_a_job_that_is_done_hands_out_its_reply_as_often_as_it_is_asked(held):
    agent, client, _ = held
    agent.go.set()
    job = post(client).json()["job"]

    state = finished(client, job)

    assert (state["state"], state["n_cases"], state["metrics"]) == ("done", 4, {"loss": 0.5})
    for _ in range(2):
        assert client.get(f"/v2/jobs/{job}/weights").content == b"trained global"


def test_a_job_that_is_posted_again_runs_once(held):
    agent, client, _ = held

    during = [post(client).json()["job"] for _ in range(2)]
    agent.go.set()
    finished(client, during[0])
    after = post(client).json()

    assert {*during, after["job"]} == {during[0]}
    assert after["state"] == "done"
    assert agent.n_jobs == 1


def test_a_job_goes_on_when_the_relay_is_gone(held):
    agent, client, desk = held
    job = post(client).json()["job"]
    client.close()

    agent.go.set()

    until(lambda: desk.state(job).state == "done")


def test_a_relay_that_dies_while_it_posts_leaves_no_trace(held, caplog):
    agent, client, desk = held
    path = client._transport._pool._uds
    head = f"POST /v2/jobs?manifest={'f' * 64}&round=1&verb=train HTTP/1.1\r\nHost: agent\r\n"
    with socket.socket(socket.AF_UNIX) as dying:
        dying.connect(path)
        dying.sendall(f"{head}Content-Length: 99\r\n\r\nweig".encode())

    agent.go.set()

    assert finished(client, post(client).json()["job"])["state"] == "done"
    assert agent.n_jobs == 1
    assert not desk.is_busy
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "change", [{"round": "2"}, {"verb": "validate"}, {"weights": b"other"}, {"held": "a" * 64}]
)
def test_another_job_waits_for_its_turn(held, change):
    agent, client, _ = held
    post(client)

    assert post(client, **change).status_code == 409

    agent.go.set()
    until(lambda: not client.get("/").json()["busy"])
    assert post(client, **change).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"round": "-1"},
        {"round": "1" * 5000},
        {"round": "²"},
        {"verb": "delete"},
        {"manifest": "f"},
        {"held": "../model"},
    ],
    ids=["negative", "endless", "superscript", "verb", "manifest", "held"],
)
def test_a_malformed_request_gets_a_code(held, change):
    _, client, desk = held

    response = post(client, **change)

    assert (response.status_code, response.json()) == (400, {"code": 1001})
    assert not desk.is_busy


def test_a_job_nobody_posted_is_unknown(held):
    _, client, _ = held

    assert client.get(f"/v2/jobs/{'0' * 64}").status_code == 404


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_that_is_too_large_is_refused(chunked):
    body = [b"x" * 1000] * 100
    with (
        short_folder() as folder,
        serving(AddingAgent(1), folder / "a.sock", largest_message_bytes=5000) as desk,
        client_of(folder / "a.sock") as client,
    ):
        response = post(client, iter(body) if chunked else b"".join(body))

        assert (response.status_code, response.json()) == (413, {"code": 1008})
        assert not desk.is_busy


@pytest.mark.parametrize(("agent", "code"), [(FailingAgent(), 1006), (BrokenAgent(), 1011)])
def test_a_failure_is_a_code_without_a_word(agent, code):
    with (
        short_folder() as folder,
        serving(agent, folder / "a.sock"),
        client_of(folder / "a.sock") as client,
    ):
        state = finished(client, post(client).json()["job"])

    assert (state["state"], state["code"]) == ("failed", code)
    assert "jane" not in json.dumps(state)


def test_a_job_that_failed_begins_anew_when_it_is_posted_again():
    agent = FailingAgent()
    with (
        short_folder() as folder,
        serving(agent, folder / "a.sock") as desk,
        client_of(folder / "a.sock") as client,
    ):
        job = post(client).json()["job"]
        finished(client, job)
        desk._agent = AddingAgent(1)
        post(client)

        # Its weights are no safetensors, so it fails again, now at another agent.
        assert finished(client, job)["code"] == 1011
