"""SCAFFOLD's variates, against numbers worked out by hand, and what they are good for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from federation.server_optimizer import GlobalModel
from federation.spool import Spool
from federation.variates import corrections, path_length, variates_after
from segfed.agent.held_model import with_model
from segfed.learning_rate import schedule
from segfed.protocol import CORRECTION_PREFIX, RoundReply
from tests.federation_samples import AddingAgent, arrays, manifest, run


def model(value, memory=None):
    return GlobalModel({"w": np.full((2, 1), value, np.float32)}, memory or {})


def memory_after(folder, before, *, weights, paths, **trained):
    """What the server remembers when sites ended at some values."""
    spool = Spool(folder / "spool", model=before.weights)
    for site, value in trained.items():
        spool.add(site, model(value).weights)
    return variates_after(before, spool, weights=weights, paths=paths)


def corrected(state):
    """The corrections as numbers, by site."""
    found = corrections(state, ["a", "b", "new"])
    assert {array["correction.w"].dtype for array in found.values()} == {np.dtype(np.float32)}
    return {site: float(array["correction.w"].max()) for site, array in found.items()}


def test_before_the_first_round_nobody_is_corrected():
    assert corrections(model(0.0), ["a", "b"]) == {}


def test_variates_are_those_of_the_papers_second_option(tmp_path):
    # c_a = (0 + 1) / 0.5 = 2, c_b = (0 + 8) / 2 = 4, c = (1 x 2 + 3 x 4) / 4 = 3.5.
    first = memory_after(
        tmp_path, model(0.0), weights={"a": 1, "b": 3}, paths={"a": 0.5, "b": 2}, a=-1, b=-8
    )
    assert corrected(model(-1.0, first)) == {"a": 1.5, "b": -0.5, "new": 3.5}

    # Round 2 without b: c_a = 2 - 3.5 + (-1 + 2) / 1 = -0.5, c = (-0.5 + 3 x 4) / 4 = 2.875.
    second = memory_after(tmp_path, model(-1.0, first), weights={"a": 1}, paths={"a": 1}, a=-2)
    assert corrected(model(-1.0, second)) == {"a": 3.375, "b": -1.125, "new": 2.875}
    assert float(first["c.a.w"].max()) == 2  # what was given is not changed


def test_a_path_is_the_sum_of_the_rates_of_the_steps_that_were_taken():
    study = manifest(rounds=4, steps_per_round=5, plan={"structures": {}, "learning_rate": 0.1})

    # Of 20 steps two warm up; round 1 took 2 of its 5 steps: 0.1 (0.5 + 1).
    assert path_length(study, 1, steps=2) == pytest.approx(0.15)
    assert path_length(study, 2, steps=1) == pytest.approx(0.1 * schedule(5, 20))


RATE, STEPS, ROUNDS = 0.1, 10, 12


@dataclass
class Descending:
    """Plain gradient descent to the minimum of (curvature / 2) (w - target)²."""

    curvature: float
    target: float
    n_cases: int = 1
    scored: bytes = b""

    def answer(self, request):
        if request.verb == "validate":
            self.scored = request.weights
            return RoundReply(b"", 0, {})
        if request.held_sha256:
            request = with_model(request, self.scored)
        state = load(request.weights)
        ended = {name: self._ended(name, state, request.round) for name in arrays()}
        return RoundReply(save(ended), self.n_cases, {"loss": 1.0, "steps": float(STEPS)})

    def _ended(self, name, state, round_number):
        weight = state[name].astype(np.float64)
        correction = state.get(CORRECTION_PREFIX + name, 0.0)
        for step in range((round_number - 1) * STEPS, round_number * STEPS):
            gradient = self.curvature * (weight - self.target)
            weight = weight - RATE * schedule(step, ROUNDS * STEPS) * (gradient + correction)
        return np.asarray(weight, dtype=np.float32)


def final(folder, agents, algorithm, **changes):
    """The weight after all rounds."""
    study = manifest(
        rounds=ROUNDS,
        steps_per_round=STEPS,
        plan={"structures": {"x": [1]}, "learning_rate": RATE},
        federation={"algorithm": algorithm, "max_norm_ratio": 1e3} | changes,
    )
    folder.mkdir()
    run(folder, agents, study)
    return load((folder / "run" / f"round_{ROUNDS:03d}.safetensors").read_bytes())["b.scale"]


def sites(**changed):
    return {"a": Descending(1, 0), "b": Descending(3, 1)} | changed


def test_scaffold_reaches_the_minimum_that_fedavg_misses(tmp_path):
    # Minimum of the mean: (1 x 0 + 3 x 1) / (1 + 3). Plain averaging is drawn to the mean of the
    # sites' own minima, 0.5, the more so the farther they go in a round.
    assert final(tmp_path / "plain", sites(), "fedavg") < 0.71
    assert final(tmp_path / "scaffold", sites(), "scaffold") == pytest.approx(0.75, abs=0.01)


def test_the_minimum_is_that_of_the_weighted_mean(tmp_path):
    # Five times as many cases at a: (5 x 1 x 0 + 3 x 1) / (5 + 3).
    found = final(tmp_path / "run", sites(a=Descending(1, 0, n_cases=5)), "scaffold")

    assert found == pytest.approx(0.375, abs=0.01)


class Breaking(AddingAgent):
    """States more steps than were asked for, which no round accepts."""

    def answer(self, request):
        reply = super().answer(request)
        return replace(reply, metrics={"loss": 1.0, "steps": 10.0**6})


def test_a_site_whose_replies_are_dropped_does_not_disturb_the_others(tmp_path):
    found = final(tmp_path / "run", sites(c=Breaking(50)), "scaffold")

    assert found == final(tmp_path / "without", sites(), "scaffold")
