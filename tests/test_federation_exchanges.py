"""Sites that lost the model they were to start from; the strategy's tests have the others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from safetensors.numpy import load

from federation.server_optimizer import GlobalModel
from segfed.protocol import AgentErrorCode
from tests.federation_samples import (
    AddingAgent,
    FailingAgent,
    arrays,
    manifest,
    run,
    scripted_rounds,
)


def final(folder):
    """The weight after all rounds."""
    return load((folder / "run" / "round_003.safetensors").read_bytes())["b.scale"]


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
    model, _ = rounds.run(1, GlobalModel(arrays()))

    model, record = rounds.run(2, model)

    assert (model.weights["b.scale"], record.seconds) == (2, 0)
    assert record.dropped == {"dead": "train: no reply"}
