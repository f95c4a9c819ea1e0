"""Rounds with agents that answer by rule, through real Flower messages."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
from flwr.app import Array
from safetensors.numpy import load, save

from federation.messages import read_arrays, write_arrays
from federation.server_optimizer import GlobalModel
from segfed.errors import FederationError
from segfed.protocol import AgentErrorCode, RoundReply
from tests.federation_samples import (
    AddingAgent,
    ChangedAgent,
    FailingAgent,
    arrays,
    manifest,
    run,
    scripted_rounds,
)


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


def test_the_model_goes_down_once_a_round_after_the_first_and_up_once(tmp_path):
    # The arrays take 299 bytes (see test_federation_messages); records around them a few hundred.
    first, *later = run(tmp_path, {"north": AddingAgent(1), "south": AddingAgent(1)})

    assert 2 * 299 < first.sites["north"]["bytes_down"] < 2 * 299 + 400
    for record in later:
        assert 299 < record.sites["north"]["bytes_down"] < 299 + 500
    assert 299 < first.sites["north"]["bytes_up"] < 299 + 200


@dataclass
class ForgetfulAgent(AddingAgent):
    """Has lost the model that it scored by the time it is to train."""

    def answer(self, request):
        if request.verb == "train":
            self.scored = b""
        return super().answer(request)


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])
def test_a_site_that_lost_the_model_gets_it_whole_in_the_same_round(tmp_path, algorithm):
    study = manifest(federation={"algorithm": algorithm})
    finals = {}
    for kind in (AddingAgent, ForgetfulAgent):
        agents = {"north": AddingAgent(1, n_cases=3), "south": kind(5)}
        (tmp_path / kind.__name__).mkdir()
        records = run(tmp_path / kind.__name__, agents, study)
        finals[kind] = final(tmp_path / kind.__name__)
        held = [bool(r.held_sha256) for r in agents["south"].requests if r.verb == "train"]

        assert [record.dropped for record in records] == [{}, {}, {}]
        assert held == [False, *((True, False) if kind is ForgetfulAgent else (True,)) * 2]

    assert finals[ForgetfulAgent] == finals[AddingAgent]


def test_a_site_that_asks_for_a_model_that_it_got_is_dropped(tmp_path):
    asking = FailingAgent(AgentErrorCode.MODEL_NOT_HELD)

    records = run(tmp_path, {"north": AddingAgent(1), "south": AddingAgent(1), "west": asking})

    assert "no longer has the model" in records[0].dropped["west"]
    assert final(tmp_path) == 3


def test_a_dead_site_does_not_hold_up_one_that_lost_the_model(tmp_path):
    agents = {"a": AddingAgent(1), "b": ForgetfulAgent(1), "dead": AddingAgent(7)}
    rounds, grid = scripted_rounds(tmp_path, agents, round_deadline_seconds=60)
    grid.silent_until["dead"] = 1e9
    model, _ = rounds.run(1, start())

    model, record = rounds.run(2, model)

    assert (value(model), record.seconds) == (2, 0)
    assert record.dropped == {"dead": "train: no reply"}


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


def start():
    return GlobalModel(arrays())


def value(model):
    return model.weights["b.scale"]


def test_sites_are_asked_in_the_order_of_their_names_with_the_study_s_round(tmp_path):
    agents = {name: AddingAgent(1) for name in ("south", "east", "north")}
    rounds, grid = scripted_rounds(tmp_path, agents)

    _, record = rounds.run(5, start())

    assert [site for site, verb in grid.asked if verb == "train"] == ["east", "north", "south"]
    assert {request.round for request in agents["east"].requests} == {5}
    assert record.round == 5


def with_arrays(**changed):
    """Puts other arrays into a reply; None takes one away."""

    def change(reply):
        weights = read_arrays(reply.content["arrays"]) | changed
        kept = {name: array for name, array in weights.items() if array is not None}
        reply.content["arrays"] = write_arrays(kept)

    return change


def with_metric(name, number):
    def change(reply):
        reply.content["metrics"][name] = number

    return change


def of_another_node(reply):
    reply.metadata.__dict__["_src_node_id"] = 66


def of_two_hundred_times_the_size(reply):
    record = reply.content["arrays"]
    record["a.weight"] = Array("float32", (3, 2), "numpy.ndarray", bytes(2_000_000))


BAD = {
    "NaN": (with_arrays(**{"b.scale": np.array(np.nan, np.float32)}), "holds NaN"),
    "shape": (with_arrays(**{"a.weight": np.ones((2, 3), np.float32)}), "shape (2, 3)"),
    "broadcast": (with_arrays(**{"a.weight": np.ones((1, 2), np.float32)}), "shape (1, 2)"),
    "fp16": (with_arrays(**{"a.weight": np.ones((3, 2), np.float16)}), "type float16"),
    "missing": (with_arrays(**{"b.scale": None}), "1 of 2 arrays are missing"),
    "huge": (of_two_hundred_times_the_size, "larger than"),
    "count": (with_metric("num-examples", 10**9), "case count"),
    "inflated": (with_arrays(**{"a.weight": np.full((3, 2), 1e4, np.float32)}), "norm"),
    "steps": (with_metric("steps", 1e6), "step count"),
    "stranger": (of_another_node, "no reply"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_reply_is_dropped_and_named_and_the_model_is_that_of_the_others(tmp_path, kind):
    change, reason = BAD[kind]
    agents = {"north": AddingAgent(1), "south": AddingAgent(2), "west": AddingAgent(3)}
    rounds, _ = scripted_rounds(tmp_path, agents | {"bad": ChangedAgent(50, change=change)})

    model, record = rounds.run(1, start())

    assert list(record.dropped) == ["bad"]
    assert reason in record.dropped["bad"]
    np.testing.assert_array_equal(model.weights["a.weight"], np.full((3, 2), 2.0))
    assert value(model) == 2


def test_a_second_reply_does_not_count(tmp_path):
    rounds, grid = scripted_rounds(tmp_path, {"north": AddingAgent(1), "south": AddingAgent(3)})
    pull = grid.pull_messages

    def pull_twice(keys):
        return [again for reply in pull(keys) for again in (reply, changed(copy.deepcopy(reply)))]

    def changed(reply):
        if "arrays" in reply.content:
            with_arrays(**{"b.scale": np.array(9.0, np.float32)})(reply)
        return reply

    grid.pull_messages = pull_twice
    model, record = rounds.run(1, start())

    assert value(model) == 2
    assert record.dropped == {}


def test_updates_may_weigh_by_the_steps_that_sites_took(tmp_path):
    # Of at most one step in a round each took one, whatever their cases: (2 + 4) / 2.
    steps = with_metric("steps", 1.0)
    agents = {
        "north": ChangedAgent(2, n_cases=50, change=steps),
        "south": ChangedAgent(4, change=steps),
    }
    rounds, _ = scripted_rounds(tmp_path, agents, weighting="steps")

    model, record = rounds.run(1, start())

    assert value(model) == 3
    assert record.loss == 3
    assert record.sites["north"]["steps"] == 1


def test_a_claim_of_many_cases_does_not_buy_the_model(tmp_path):
    agents = {"a": AddingAgent(1), "b": AddingAgent(1), "c": AddingAgent(7, n_cases=100_000)}
    rounds, _ = scripted_rounds(tmp_path, agents)

    # (1 + 1 + 10 x 7) / 12
    assert value(rounds.run(1, start())[0]) == 6


def test_the_median_outvotes_a_site_that_stays_within_the_checks(tmp_path):
    agents = {"a": AddingAgent(1), "b": AddingAgent(2), "c": AddingAgent(9, n_cases=1000)}
    rounds, _ = scripted_rounds(tmp_path, agents, aggregation="median")

    assert value(rounds.run(1, start())[0]) == 2


def flipped(reply):
    """The update turned round: the site works against the others."""
    weights = read_arrays(reply.content["arrays"])
    reply.content["arrays"] = write_arrays(
        {name: np.asarray(-array) for name, array in weights.items()}
    )


def test_an_update_that_looks_wrong_is_named_and_still_counts_unless_the_study_drops_it(tmp_path):
    agents = {"a": AddingAgent(2), "b": AddingAgent(3), "c": AddingAgent(7)}
    hostile = {"odd": ChangedAgent(5, change=flipped)}
    # Equal directions: a's, b's and c's cosines are 1, the flipped one's is -1.
    for action, expected in (("report", (2 + 3 + 7 - 5) / 4), ("drop", 4)):
        rounds, _ = scripted_rounds(tmp_path, agents | hostile, suspects=action)

        model, record = rounds.run(1, start())

        assert list(record.suspects) == ["odd"]
        assert record.sites["odd"]["cosine"] == pytest.approx(-1)
        assert record.sites["odd"]["norm_ratio"] == pytest.approx(5 / 4)
        assert list(record.dropped) == (["odd"] if action == "drop" else [])
        assert value(model) == expected


def test_suspects_that_leave_no_quorum_end_the_run(tmp_path):
    agents = {"a": AddingAgent(2), "b": AddingAgent(2), "c": AddingAgent(2), "d": AddingAgent(5)}
    rounds, _ = scripted_rounds(tmp_path, agents, suspects="drop", minimum_sites=3)

    with pytest.raises(FederationError, match=r"2 usable updates .* its update is that of a"):
        rounds.run(1, start())


def test_a_round_ends_without_a_silent_site_at_the_deadline(tmp_path):
    agents = {"a": AddingAgent(1), "b": AddingAgent(1), "slow": AddingAgent(7)}
    rounds, grid = scripted_rounds(tmp_path, agents, round_deadline_seconds=60)
    grid.silent_until["slow"] = 1000

    model, record = rounds.run(1, start())

    assert value(model) == 1
    assert record.dropped == {"slow": "train: no reply"}
    assert record.seconds == 60  # and not another 60 for a score of a site that still trains


def test_a_dead_site_costs_one_deadline_and_not_one_a_round(tmp_path):
    agents = {"a": AddingAgent(1), "b": AddingAgent(1), "dead": AddingAgent(7)}
    rounds, grid = scripted_rounds(tmp_path, agents, round_deadline_seconds=60)
    grid.silent_until["dead"] = 1e9

    model, seconds = start(), []
    for number in (1, 2, 3):
        model, record = rounds.run(number, model)
        seconds.append(record.seconds)

    assert seconds == [60, 0, 0]
    assert value(model) == 3
    assert grid.asked.count(("dead", "train")) == 3


def test_a_late_reply_is_ignored_and_its_site_returns(tmp_path):
    agents = {"a": AddingAgent(1), "b": AddingAgent(1), "slow": AddingAgent(4)}
    rounds, grid = scripted_rounds(tmp_path, agents, round_deadline_seconds=60)
    grid.silent_until["slow"] = 60.5

    first, record = rounds.run(1, start())
    assert (value(first), list(record.dropped)) == (1, ["slow"])
    grid.time.seconds = 61
    second, record = rounds.run(2, first)

    # Two thirds of 1 and one third of 4: the reply to round 1 added nothing.
    assert value(second) == 3
    assert record.dropped == {}


def test_a_site_that_was_away_is_not_waited_for_and_counts_when_it_is_back(tmp_path):
    agents = {"a": AddingAgent(1), "b": AddingAgent(1), "away": AddingAgent(4)}
    rounds, grid = scripted_rounds(tmp_path, agents, round_deadline_seconds=60)
    grid.away = {"away"}

    first, record = rounds.run(1, start())
    grid.away = set()
    second, _ = rounds.run(2, first)

    assert record.dropped == {"away": "train: not connected"}
    assert (record.seconds, value(first), value(second)) == (0, 1, 3)


def test_a_round_without_a_quorum_waits_for_it_and_then_ends_the_run(tmp_path):
    agents = {"a": AddingAgent(1), "b": AddingAgent(1), "c": AddingAgent(1)}
    rounds, grid = scripted_rounds(tmp_path, agents, round_deadline_seconds=60, minimum_sites=3)
    grid.away = {"c"}

    with pytest.raises(FederationError, match=r"2 usable updates from 3 sites, expected at least"):
        rounds.run(1, start())
    assert grid.time.seconds == 60


def test_updates_do_not_stay_on_disk(tmp_path):
    rounds, _ = scripted_rounds(tmp_path, {"a": AddingAgent(1), "b": AddingAgent(1)})

    rounds.run(1, start())

    assert list(tmp_path.iterdir()) == []
