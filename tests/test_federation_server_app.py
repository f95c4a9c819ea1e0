"""The server: starting, going on, and refusing."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from safetensors.numpy import load, save

from federation.server_app import make_server_app
from segfed.errors import BudgetError, FederationError, WeightsError
from segfed.protocol import AgentError, AgentErrorCode
from tests.federation_samples import AddingAgent, arrays, manifest, run


def agents():
    return {"north": AddingAgent(step=1, n_cases=3), "south": AddingAgent(step=5)}


class DyingAgent(AddingAgent):
    """Takes the process with it in the second round."""

    def answer(self, request):
        if request.round == 2:
            raise KeyboardInterrupt
        return super().answer(request)


@dataclass
class SpendingAgent(AddingAgent):
    """Has a privacy budget for some rounds."""

    rounds: int = 2

    def answer(self, request):
        if request.verb == "train" and request.round > self.rounds:
            raise AgentError(AgentErrorCode.BUDGET_SPENT)
        reply = super().answer(request)
        if request.verb == "train":
            reply.metrics["epsilon"] = 3.0 * request.round
        return reply


def serve(tmp_path, *, run_config=None, start=None):
    """Call the server app without nodes."""
    path = tmp_path / "start.safetensors"
    if start is not None:
        path.write_bytes(save(start))
    app = make_server_app(
        manifest(),
        site_names={},
        initial_weights=path,
        out=tmp_path / "run",
        on_round=lambda _: None,
    )
    config = run_config or {"manifest-sha256": manifest().sha256}
    app(None, Context(1, 0, {}, RecordDict(), config))


def test_a_run_that_was_cut_short_ends_like_an_unbroken_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, agents() | {"south": DyingAgent(step=5)})
    assert json.loads((tmp_path / "run" / "state.json").read_text())["rounds_done"] == 1

    resumed = agents()
    records = run(tmp_path, resumed)

    # Each round adds (3 x 1 + 1 x 5) / 4 = 2, and only rounds 2 and 3 were asked for again.
    assert load((tmp_path / "run" / "round_003.safetensors").read_bytes())["b.scale"] == 6
    assert {request.round for request in resumed["north"].requests} == {2, 3}
    # The new process does not know who has the model.
    assert resumed["north"].requests[0].held_sha256 == ""
    assert [record.round for record in records] == [1, 2, 3]


@pytest.mark.parametrize(
    "rules",
    [
        {"algorithm": "fedavgm"},
        {"algorithm": "fedavgm", "server_momentum": 0.0},
        {"algorithm": "fedadam"},
        {"algorithm": "fedyogi"},
        {"aggregation": "median"},
        {"algorithm": "scaffold"},
        {"weighting": "fedpidavg"},
    ],
    ids=str,
)
def test_a_resumed_run_has_the_very_bytes_of_an_unbroken_one(tmp_path, rules):
    study = manifest(federation=rules)
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    run(tmp_path / "whole", agents(), study)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", agents() | {"south": DyingAgent(step=5)}, study)

    run(tmp_path / "broken", agents(), study)

    files = sorted(path.name for path in (tmp_path / "whole" / "run").glob("*.safetensors"))
    for name in files:
        whole, broken = (tmp_path / kind / "run" / name for kind in ("whole", "broken"))
        assert whole.read_bytes() == broken.read_bytes()


def test_a_run_whose_server_lost_its_memory_is_not_continued(tmp_path):
    study = manifest(federation={"algorithm": "fedadam"})
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, agents() | {"south": DyingAgent(step=5)}, study)
    (tmp_path / "run" / "memory_001.safetensors").unlink()

    with pytest.raises(WeightsError, match=r"memory_001\.safetensors cannot be read"):
        run(tmp_path, agents(), study)


def test_a_run_stops_when_validation_no_longer_improves(tmp_path):
    # The Dice is a tenth of the weights: 0.8, then 0.6 and 0.4.
    falling = {name: AddingAgent(step=-2) for name in ("north", "south")}
    study = manifest(rounds=9, federation={"early_stop_rounds": 2})

    records = run(tmp_path, falling, study, start=10.0)

    assert [record.round for record in records] == [1, 2, 3]
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert (state["finished"], state["best_round"]) == (True, 1)
    again = {name: AddingAgent(step=-2) for name in ("north", "south")}
    assert run(tmp_path, again, study, start=10.0) == records
    assert again["north"].requests == []


def test_a_run_that_keeps_improving_is_not_stopped(tmp_path):
    assert len(run(tmp_path, agents(), manifest(federation={"early_stop_rounds": 1}))) == 3


def test_a_finished_run_is_reported_and_not_repeated(tmp_path):
    first = run(tmp_path, agents())
    again = agents()

    assert run(tmp_path, again) == first
    assert again["north"].requests == []


def test_a_run_for_another_manifest_is_refused(tmp_path):
    with pytest.raises(FederationError, match="submitted for the manifest abc"):
        serve(tmp_path, run_config={"manifest-sha256": "abc"}, start=arrays())


def test_missing_initial_weights_are_explained(tmp_path):
    with pytest.raises(WeightsError, match=r"start\.safetensors cannot be read"):
        serve(tmp_path)


def test_counters_cannot_be_averaged(tmp_path):
    with pytest.raises(WeightsError, match="1 are not of a float type"):
        serve(tmp_path, start=arrays() | {"n_batches": np.array(3)})


def test_a_run_ends_with_the_rounds_that_the_privacy_budget_paid_for(tmp_path):
    agents = {name: SpendingAgent(step=1) for name in ("north", "south")}

    records = run(tmp_path, agents)

    assert [record.sites["north"]["epsilon"] for record in records] == [3.0, 6.0]
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert (state["rounds_done"], state["finished"]) == (2, True)
    assert "Round 3 was not trained: the privacy budget is spent at north, south" in state["ended"]
    # Whoever starts it again is told the same.
    assert run(tmp_path, agents) == records
    assert json.loads((tmp_path / "run" / "state.json").read_text()) == state


def test_one_spent_budget_among_enough_sites_drops_that_site_alone(tmp_path):
    agents = {"east": SpendingAgent(step=1, rounds=1)}
    agents |= {name: SpendingAgent(step=1, rounds=3) for name in ("north", "south")}

    records = run(tmp_path, agents)

    assert len(records) == 3
    assert records[1].dropped == {"east": "train: the site's privacy budget is spent (code 1030)"}


def test_without_a_single_round_there_is_no_model_to_end_with(tmp_path):
    with pytest.raises(BudgetError, match="Round 1 was not trained"):
        run(tmp_path, {name: SpendingAgent(step=1, rounds=0) for name in ("north", "south")})
