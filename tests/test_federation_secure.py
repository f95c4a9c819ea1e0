"""Secure aggregation between the server, the relays and sites' sessions, over Flower's messages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from federation.server_optimizer import GlobalModel
from federation.strategy import CheckedRounds
from segfed.agent.jobs import StoredTraining
from segfed.agent.masking import answer_stage
from segfed.errors import FederationError, PrivacyError
from segfed.files import sha256_bytes
from segfed.privacy import clip
from segfed.protocol import STAGES, AgentError, AgentErrorCode, RoundReply, RoundRequest
from tests.federation_samples import AddingAgent, FakeTime, ScriptedGrid, arrays, manifest

PRIVACY = {"secure_aggregation": True, "threshold": 3, "clip_norm": 50.0}
RULES = {"round_deadline_seconds": 60, "max_cases": 100}
STUDY = manifest(federation=RULES, privacy=PRIVACY)


@dataclass
class StagedAgent(AddingAgent):
    """An adding agent that keeps its update and answers the stages as a site's agent does."""

    name: str = ""
    folder: Path = Path()
    fails_at: str = ""
    sent: list[RoundReply] = field(default_factory=list)
    training: StoredTraining | None = None

    def answer(self, request):
        if request.verb == self.fails_at:
            raise AgentError(AgentErrorCode.INTERNAL)
        reply = self._stage(request) if request.verb in STAGES else super().answer(request)
        if request.verb == "train":
            request = self.whole(request)
            trained, base = load(reply.weights), load(request.weights)
            update = clip({n: np.asarray(trained[n] - base[n]) for n in base}, norm=50.0)
            self.training = StoredTraining(
                replace(reply, weights=save(update)), sha256_bytes(request.weights)
            )
            reply = replace(reply, weights=b"")
        self.sent.append(reply)
        return reply

    def _stage(self, request):
        try:
            return answer_stage(
                request,
                manifest=STUDY,
                site=self.name,
                state=self.folder / f"{self.name}.json",
                training=self.training,
            )
        except PrivacyError:
            raise AgentError(AgentErrorCode.STAGE_REFUSED) from None


def four_agents(folder, **fails_at):
    """Sites that add 1, 2, 3 and 4 with as many cases."""
    return {
        name: StagedAgent(
            step=step,
            n_cases=step,
            name=name,
            folder=folder / "sites",
            fails_at=fails_at.get(name, ""),
        )
        for step, name in enumerate("abcd", start=1)
    }


def rounds_of(folder, agents):
    """The real strategy of the study on a grid without waiting."""
    time = FakeTime()
    grid = ScriptedGrid(agents, time)
    rounds = CheckedRounds(
        grid, STUDY, site_names=grid.site_names, spool=folder / "spool", clock=time.clock()
    )
    return rounds, grid


def value(model):
    return float(model.weights["b.scale"])


def test_the_model_is_that_of_plain_averaging(tmp_path):
    agents = four_agents(tmp_path)
    rounds, _ = rounds_of(tmp_path, agents)

    model, record = rounds.run(1, GlobalModel(arrays(5.0)))

    # (1 x 1 + 2 x 2 + 3 x 3 + 4 x 4) / 10 = 3, within 1e-4 of it.
    np.testing.assert_allclose(model.weights["a.weight"], np.full((3, 2), 8.0), rtol=1e-6)
    assert model.weights["b.scale"].shape == ()
    assert model.weights["b.scale"].dtype == np.float32
    assert record.dropped == {}
    assert record.sites["a"]["update_norm"] is None
    assert record.sites["a"]["n_cases"] == 1
    assert value(model) == pytest.approx(8.0, rel=1e-6)


def test_no_message_of_a_site_holds_its_update(tmp_path):
    agents = four_agents(tmp_path)
    rounds, _ = rounds_of(tmp_path, agents)

    rounds.run(1, GlobalModel(arrays()))

    for agent in agents.values():
        bodies = [reply.weights for reply in agent.sent]
        assert agent.training.reply.weights not in bodies
        masked = [load(body) for body in bodies if body and body[:1] != b"{"]
        assert [found["a.weight"].dtype for found in masked] == [np.uint64]
        # The same value in every place, under masks that differ in every place.
        assert len(np.unique(masked[0]["a.weight"])) == 6


@pytest.mark.parametrize("stage", ["train", "keys", "shares", "mask"])
def test_a_site_that_drops_out_at_any_stage_is_left_out_of_the_sum(tmp_path, stage):
    rounds, _ = rounds_of(tmp_path, four_agents(tmp_path, d=stage))

    model, record = rounds.run(1, GlobalModel(arrays()))

    # (1 x 1 + 2 x 2 + 3 x 3) / 6
    assert value(model) == pytest.approx(14 / 6, rel=1e-6)
    assert list(record.dropped) == ["d"]
    assert f"{stage}: something unexpected failed" in record.dropped["d"]


def test_a_site_that_goes_silent_after_its_masked_update_still_counts(tmp_path):
    rounds, _ = rounds_of(tmp_path, four_agents(tmp_path, d="unmask"))

    model, record = rounds.run(1, GlobalModel(arrays()))

    assert value(model) == pytest.approx(3.0, rel=1e-6)
    assert "unmask" in record.dropped["d"]


@pytest.mark.parametrize("stage", ["keys", "shares", "mask", "unmask"])
def test_two_of_four_are_below_the_threshold_and_end_the_run(tmp_path, stage):
    rounds, _ = rounds_of(tmp_path, four_agents(tmp_path, c=stage, d=stage))

    with pytest.raises(
        FederationError, match="2 sites left in secure aggregation, expected at lea"
    ):
        rounds.run(1, GlobalModel(arrays()))


def test_a_server_that_lost_a_sum_gets_the_same_one_again_and_no_other(tmp_path):
    agents = four_agents(tmp_path)
    first, _ = rounds_of(tmp_path, agents)[0].run(1, GlobalModel(arrays()))

    again, _ = rounds_of(tmp_path, agents)[0].run(1, GlobalModel(arrays()))
    assert value(again) == value(first)

    agents["d"].fails_at = "mask"  # a sum without d would give d's update away
    with pytest.raises(FederationError, match="0 sites left"):
        rounds_of(tmp_path, agents)[0].run(1, GlobalModel(arrays()))


def test_rounds_follow_each_other(tmp_path):
    rounds, _ = rounds_of(tmp_path, four_agents(tmp_path))
    model = GlobalModel(arrays())
    for number in (1, 2, 3):
        model, _ = rounds.run(number, model)

    assert value(model) == pytest.approx(9.0, rel=1e-5)


def test_a_site_that_the_threshold_needs_is_waited_for_although_it_was_late_before(tmp_path):
    rounds, grid = rounds_of(tmp_path, four_agents(tmp_path))
    grid.silent_until = {"c": float("inf")}
    model, first = rounds.run(1, GlobalModel(arrays()))
    assert first.dropped.keys() == {"c"}

    grid.time.seconds += 120  # nobody looks for the late reply any more
    grid.away, grid.silent_until = {"d"}, {"c": grid.time.seconds + 5}
    _, second = rounds.run(2, model)

    assert second.dropped.keys() == {"d"}


@dataclass
class MisledAgent(StagedAgent):
    """A site that the server gave another model than the others."""

    def answer(self, request):
        if request.verb == "train":
            request = replace(request, weights=save(arrays(7.0)))
        return super().answer(request)


def test_no_sum_comes_of_sites_that_were_given_another_model_than_one_of_them(tmp_path):
    agents = four_agents(tmp_path)
    for name in "abc":
        agents[name] = MisledAgent(step=0, n_cases=1, name=name, folder=tmp_path / "sites")
    rounds, _ = rounds_of(tmp_path, agents)

    with pytest.raises(FederationError, match="sites left in secure aggregation"):
        rounds.run(1, GlobalModel(arrays()))

    masked = [
        reply for agent in agents.values() for reply in agent.sent if reply.weights[:1] != b"{"
    ]
    assert not [reply for reply in masked if reply.weights]


@dataclass
class LyingAgent(StagedAgent):
    """Uploads whatever it likes in place of its masked update."""

    def answer(self, request):
        reply = super().answer(request)
        if request.verb != "mask":
            return reply
        noise = np.random.default_rng(0)
        return replace(
            reply,
            weights=save(
                {
                    name: noise.integers(0, 2**63, size=array.shape, dtype=np.uint64)
                    for name, array in load(reply.weights).items()
                }
            ),
        )


def test_an_upload_that_is_no_clipped_update_is_noticed(tmp_path):
    agents = four_agents(tmp_path)
    agents["b"] = LyingAgent(step=2, name="b", folder=tmp_path / "sites")

    with pytest.raises(PrivacyError, match="expected at most the clipping norm 50"):
        rounds_of(tmp_path, agents)[0].run(1, GlobalModel(arrays()))


KEYS = RoundRequest(STUDY.sha256, 1, "keys", b'{"session": "' + b"1" * 32 + b'"}')


def test_a_study_without_secure_aggregation_gets_no_answer_in_a_stage(tmp_path):
    with pytest.raises(PrivacyError, match="does not ask for it"):
        answer_stage(KEYS, manifest=manifest(), site="a", state=tmp_path / "a.json", training=None)


def test_nothing_is_summed_before_it_was_trained(tmp_path):
    with pytest.raises(PrivacyError, match="expected `train` before"):
        answer_stage(KEYS, manifest=STUDY, site="a", state=tmp_path / "a.json", training=None)
