"""The grid for Flower's Ray engine, without Ray; with it in tests/integration."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from flwr.app import Message, MetricRecord, RecordDict

from federation.messages import write_arrays
from federation.ray_engine import RayGrid, ray_grid
from segfed.errors import FederationError
from segfed.protocol import FederationJob
from tests.federation_samples import arrays, manifest

NODES = (11, 12)


def messages():
    content = RecordDict({"arrays": write_arrays(arrays())})
    return [Message(content, node, "train") for node in NODES]


def answer(message, context):
    content = RecordDict({"metrics": MetricRecord({"node": context.node_id})})
    return Message(content, reply_to=message)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_sites_are_worked_on_side_by_side(executor):
    meeting = threading.Barrier(2, timeout=30)

    def meet(message, context):
        meeting.wait()  # breaks unless the other site is at work, too
        return answer(message, context)

    replies = RayGrid(meet, NODES, executor=executor).send_and_receive(messages())

    assert [reply.content["metrics"]["node"] for reply in replies] == [11, 12]


def test_a_reply_is_handed_out_once_and_only_when_it_is_there(executor):
    may_answer = threading.Event()

    def answer_late(message, context):
        may_answer.wait(30)
        return answer(message, context)

    grid = RayGrid(answer_late, NODES, executor=executor)
    keys = grid.push_messages(messages())

    assert list(grid.pull_messages(keys)) == []
    may_answer.set()
    executor.shutdown(wait=True)
    assert len(list(grid.pull_messages(keys))) == 2
    assert list(grid.pull_messages(keys)) == []


def test_ray_that_is_not_installed_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    backend = "flwr.server.superlink.fleet.vce.backend.raybackend"
    monkeypatch.delitem(sys.modules, backend, raising=False)
    job = FederationJob(
        manifest=manifest(),
        sites=(tmp_path, tmp_path / "b"),
        initial_weights=tmp_path / "start.safetensors",
        out=tmp_path / "run",
        device="cpu",
        engine="ray",
    )

    with (
        pytest.raises(FederationError, match=r"ray is not installed.*'in-process'"),
        ray_grid(job, {1: tmp_path}),
    ):
        pass
