"""Flower's grid in one process."""

from __future__ import annotations

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from federation.grid import InProcessGrid
from federation.messages import read_arrays, write_arrays


def make_grid():
    """Two nodes whose client empties the arrays that it gets and names its node."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        message.content["arrays"].clear()
        content = RecordDict({"metrics": MetricRecord({"node": context.node_id})})
        return Message(content, reply_to=message)

    contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in (11, 12)}
    return InProcessGrid(app, contexts)


def messages():
    content = RecordDict({"arrays": write_arrays({"a": np.ones(2)})})
    return content, [Message(content, node, "train") for node in (11, 12)]


def test_every_message_is_answered_by_its_node():
    _, sent = messages()

    replies = list(make_grid().send_and_receive(sent))

    assert [reply.metadata.src_node_id for reply in replies] == [11, 12]
    assert [reply.content["metrics"]["node"] for reply in replies] == [11, 12]


def test_a_client_that_changes_its_content_does_not_change_the_sender_s():
    content, sent = messages()

    make_grid().send_and_receive(sent)

    assert read_arrays(content["arrays"])["a"].tolist() == [1, 1]


def test_replies_wait_until_they_are_pulled_once():
    grid = make_grid()
    _, sent = messages()
    keys = list(grid.push_messages(sent))

    assert [m.metadata.reply_to_message_id for m in grid.pull_messages(keys)] == keys
    assert list(grid.pull_messages(keys)) == []


def test_the_nodes_are_those_with_a_context():
    assert list(make_grid().get_node_ids()) == [11, 12]


def test_messages_belong_to_the_run_that_was_set():
    grid = make_grid()
    grid.set_run(Run.create_empty(run_id=8))
    sent = grid.create_message(messages()[0], "train", 11, group_id="1")

    (reply,) = grid.send_and_receive([sent])

    assert grid.run.run_id == reply.metadata.run_id == 8
