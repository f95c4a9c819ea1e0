"""The server: starting, going on, and refusing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from safetensors.numpy import load, save

from federation.server_app import make_server_app
from segfed.errors import FederationError, WeightsError
from tests.federation_samples import AddingAgent, arrays, manifest, run


def agents():
    return {"north": AddingAgent(step=1, n_cases=3), "south": AddingAgent(step=5)}


class DyingAgent(AddingAgent):
    """Takes the process with it in the second round."""

    def answer(self, request):
        if request.round == 2:
            raise KeyboardInterrupt
        return super().answer(request)


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
    assert [record.round for record in records] == [1, 2, 3]


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
