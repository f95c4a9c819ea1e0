"""Rounds with agents that answer by rule, through real Flower messages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord
from safetensors.numpy import load, save

from federation.messages import reply_message, write_arrays
from federation.strategy import CheckedAveraging
from segfed.errors import FederationError
from segfed.protocol import RoundReply
from tests.federation_samples import AddingAgent, FailingAgent, arrays, run


class NanAgent(AddingAgent):
    """Sends NaN in one round."""

    def answer(self, request):
        reply = super().answer(request)
        if request.verb == "validate" or request.round != 2:
            return reply
        broken = load(reply.weights) | {"b.scale": np.array(np.nan, np.float32)}
        return RoundReply(save(broken), reply.n_cases, reply.metrics)


class BoastingAgent(AddingAgent):
    """States a Dice that no prediction can have."""

    def answer(self, request):
        reply = super().answer(request)
        return replace(reply, metrics={"dice_x": 1.5}) if request.verb == "validate" else reply


class Nodes:
    """A grid that knows its nodes and sends nothing."""

    def __init__(self, *node_ids):
        self.node_ids = node_ids

    def get_node_ids(self):
        return self.node_ids


def final(folder):
    return load((folder / "run" / "round_003.safetensors").read_bytes())["b.scale"]


def test_each_round_moves_the_model_by_the_mean_weighted_by_cases(tmp_path):
    # A round adds (3 x 1 + 1 x 5) / 4 = 2; three rounds add 6.
    run(tmp_path, {"north": AddingAgent(step=1, n_cases=3), "south": AddingAgent(step=5)})

    assert final(tmp_path) == 6


def test_a_record_holds_what_every_site_brought(tmp_path):
    records = run(tmp_path, {"north": AddingAgent(1, n_cases=3), "south": AddingAgent(5)})

    first = records[0]
    assert first.loss == 2  # (3 x 1 + 1 x 5) / 4
    assert first.validation_dice == 0.2  # a tenth of the weights
    north = first.sites["north"]
    assert (north["n_cases"], north["loss"], north["n_validation_cases"]) == (3, 1, 1)
    assert north["seconds"] == 1.5  # 1 s of training and 0.5 s of validation
    assert north["dice_x"] == 0.2
    assert first.dropped == {}


def test_traffic_counts_the_model_down_twice_and_up_once(tmp_path):
    # The arrays take 299 bytes (see test_federation_messages); records around them a few hundred.
    north = run(tmp_path, {"north": AddingAgent(1), "south": AddingAgent(1)})[0].sites["north"]

    assert 2 * 299 < north["bytes_down"] < 2 * 299 + 400
    assert 299 < north["bytes_up"] < 299 + 200


def test_a_site_that_sends_nan_is_dropped_for_that_round_and_named(tmp_path):
    agents = {"north": AddingAgent(1), "south": AddingAgent(1), "west": NanAgent(4)}

    records = run(tmp_path, agents)

    assert [list(record.dropped) for record in records] == [[], ["west"], []]
    assert "NaN" in records[1].dropped["west"]
    # 2 in the rounds with west, 1 in the round without.
    assert final(tmp_path) == 5


def test_an_impossible_dice_is_dropped_and_named_and_the_update_still_counts(tmp_path):
    records = run(tmp_path, {"north": AddingAgent(1), "south": BoastingAgent(1)})

    assert records[0].dropped == {"south": "validate: dice_x is not from 0 to 1"}
    assert "dice_x" not in records[0].sites["south"]
    assert records[0].validation_dice == 0.1  # north's alone
    assert final(tmp_path) == 3


def test_a_site_that_refuses_is_dropped_and_the_others_go_on(tmp_path):
    agents = {"north": AddingAgent(1), "south": AddingAgent(1), "west": FailingAgent()}

    records = run(tmp_path, agents)

    assert records[2].dropped["west"].count("fewer training cases") == 2  # train and validate
    assert records[2].sites["west"]["loss"] is None
    assert final(tmp_path) == 3


def test_one_update_is_no_federation(tmp_path):
    with pytest.raises(FederationError, match=r"Round 1 brought 1 usable updates from 2 sites"):
        run(tmp_path, {"north": AddingAgent(1), "south": FailingAgent()})


def test_sites_are_asked_in_the_order_of_their_names_with_the_study_s_round():
    strategy = CheckedAveraging(
        site_names={7: "north", 5: "south", 9: "east"}, manifest_sha256="f" * 64, rounds_done=4
    )

    messages = strategy.configure_train(1, write_arrays(arrays()), ConfigRecord(), Nodes(5, 7, 9))

    assert [message.metadata.dst_node_id for message in messages] == [9, 7, 5]
    assert {message.content["config"]["server-round"] for message in messages} == {5}


def test_strangers_and_second_replies_are_ignored_and_silence_is_named():
    strategy = CheckedAveraging(
        site_names={5: "south", 7: "north", 9: "west"}, manifest_sha256="f" * 64
    )
    requests = strategy.configure_train(1, write_arrays(arrays()), ConfigRecord(), Nodes(5, 7, 9))
    north, south, _ = requests
    update = RoundReply(save(arrays(2.0)), 1, {})
    stranger = reply_message(update, north)
    stranger.metadata.__dict__["_src_node_id"] = 66
    again = reply_message(RoundReply(save(arrays(100.0)), 1, {}), north)
    replies = [reply_message(update, north), again, stranger, reply_message(update, south)]

    averaged, _ = strategy.aggregate_train(1, replies)

    assert averaged["b.scale"].numpy() == 2
    strategy.aggregate_evaluate(1, [])
    assert strategy.round_record(1).dropped["west"] == "train: no reply; validate: no reply"
