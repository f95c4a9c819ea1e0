"""A real agent's part in secure aggregation: what it trains leaves under masks alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from federation.simulation import run_federation
from segfed.agent.egress import payload
from segfed.agent.masking import bounded, check_stage_egress, clipped_update
from segfed.agent.refusal import RefusedError
from segfed.engine import build_network, from_bytes, read_plan, to_bytes
from segfed.privacy import euclidean_norm
from segfed.protocol import AgentError, AgentErrorCode, RoundReply
from segfed.rules import PrivacyRules
from tests.agent_samples import bean_manifest, job, labelled_site, make_agent, start_weights

PRIVACY = {"secure_aggregation": True, "threshold": 2, "clip_norm": 100.0}


class ForgetfulAgent:
    """A site whose agent process starts anew before every message."""

    def __init__(self, site, manifest):
        self._site, self._manifest = site, manifest
        self.replies = []

    def answer(self, request):
        reply = make_agent(self._site, self._manifest).answer(request)
        self.replies.append((request.verb, reply))
        return reply


def trained(folder, manifest, sites):
    """The global model after one round, and the agents."""
    folder.mkdir()
    (folder / "start.safetensors").write_bytes(start_weights(manifest))
    agents = {site.name: ForgetfulAgent(site, manifest) for site in sites}
    run_federation(
        manifest,
        agents=agents,
        initial_weights=folder / "start.safetensors",
        out=folder / "run",
        on_round=lambda _record: None,
    )
    return load((folder / "run" / "round_001.safetensors").read_bytes()), agents


def test_masked_rounds_over_restarts_make_the_model_of_plain_averaging(tmp_path):
    sites = [labelled_site(tmp_path, name=name) for name in ("north", "south", "western")]
    plain = bean_manifest(tmp_path, rounds=1)
    hidden = bean_manifest(tmp_path, rounds=1, privacy=PRIVACY)

    expected, _ = trained(tmp_path / "plain", plain, sites)
    found, agents = trained(tmp_path / "hidden", hidden, sites)

    start = load(start_weights(plain))
    change = euclidean_norm({name: expected[name] - start[name] for name in start})
    error = euclidean_norm({name: found[name] - expected[name] for name in start})
    assert error < 1e-4 * change
    for agent in agents.values():
        verbs = [verb for verb, _ in agent.replies]
        assert verbs == ["train", "keys", "shares", "mask", "unmask", "validate"]
        assert dict(agent.replies)["train"].weights == b""


def test_every_stage_is_in_the_audit_log(tmp_path):
    site = labelled_site(tmp_path)
    manifest = bean_manifest(tmp_path, privacy=PRIVACY)
    agent = make_agent(site, manifest)
    agent.answer(job(manifest))
    agent.answer(job(manifest, "keys", weights=b'{"session": "' + b"1" * 32 + b'"}'))

    lines = (site.folder / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["train", "keys"]


def test_an_emptied_cache_does_not_forget_what_was_begun(tmp_path):
    site = labelled_site(tmp_path)
    manifest = bean_manifest(tmp_path, privacy=PRIVACY)
    keys = job(manifest, "keys", weights=b'{"session": "' + b"1" * 32 + b'"}')
    make_agent(site, manifest).answer(job(manifest))
    first = make_agent(site, manifest).answer(keys)

    shutil.rmtree(site.folder / "cache")
    make_agent(site, manifest).answer(job(manifest))

    # New keys would have been drawn in a session that is not known any more.
    assert make_agent(site, manifest).answer(keys) == first


def test_a_refused_stage_leaves_as_a_code(tmp_path):
    site = labelled_site(tmp_path)
    manifest = bean_manifest(tmp_path, privacy=PRIVACY)

    with pytest.raises(AgentError) as refused:
        make_agent(site, manifest).answer(job(manifest, "unmask", weights=b"{}"))
    assert refused.value.code == AgentErrorCode.STAGE_REFUSED


def test_a_study_may_bound_updates_without_masks(tmp_path):
    site = labelled_site(tmp_path)
    manifest = bean_manifest(tmp_path, privacy={"clip_norm": 0.01})

    reply = make_agent(site, manifest).answer(job(manifest))

    start, end = load(start_weights(manifest)), load(reply.weights)
    norm = euclidean_norm({name: end[name].astype(np.float64) - start[name] for name in start})
    assert norm == pytest.approx(0.01, rel=1e-3)  # weights are float32


def test_an_update_is_the_difference_shortened_to_the_norm():
    base, end = {"w": torch.tensor([1.0, 1.0])}, {"w": torch.tensor([4.0, 5.0])}  # norm 5

    update = clipped_update(to_bytes(end), to_bytes(base), clip_norm=2.5)

    torch.testing.assert_close(from_bytes(update)["w"], torch.tensor([1.5, 2.0]))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        # (4, 5) - (1, 1) is (3, 4), of length 5: half of it is of length 2.5.
        ({}, [4.0, 5.0]),
        ({"clip_norm": 2.5}, [2.5, 3.0]),
        ({"clip_norm": 2.5, "secure_aggregation": True, "threshold": 2}, [1.5, 2.0]),
    ],
    ids=["as trained", "clipped", "the update alone"],
)
def test_weights_are_bounded_as_the_study_says(rules, expected):
    base, trained = ({"w": torch.tensor(w)} for w in ([1.0, 1.0], [4.0, 5.0]))

    found = bounded(to_bytes(trained), to_bytes(base), PrivacyRules(**rules))

    torch.testing.assert_close(from_bytes(found)["w"], torch.tensor(expected))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    manifest = bean_manifest(tmp_path_factory.mktemp("study"), privacy=PRIVACY)
    return manifest, build_network(read_plan(manifest.plan), seed=0)


def masked(network, dtype=np.uint64):
    return {
        name: np.zeros(tuple(tensor.shape), dtype) for name, tensor in network.state_dict().items()
    }


def test_a_masked_update_of_the_network_may_leave(study):
    manifest, network = study
    reply = RoundReply(save(masked(network)), 0, {})

    check_stage_egress(reply, job(manifest, "mask"), network=network)
    assert payload(reply).endswith(reply.weights)


@pytest.mark.parametrize(
    ("verb", "spoil"),
    [
        ("mask", lambda network: save(masked(network, np.float64))),  # not masked at all
        ("mask", lambda network: save(masked(network) | {"more": np.zeros(1, np.uint64)})),
        ("mask", lambda network: save(masked(network), metadata={"name": "jane doe"})),
        ("keys", lambda _: b'{"encryption": "jane doe"}'),
        ("unmask", lambda _: b'{"seeds": {}, "keys": {}, "note": "jane doe"}'),
        ("unmask", lambda _: b'{"seeds": {}, "keys": {}}   '),
        ("shares", lambda _: b'{"shares": {"north": "' + b"0" * 183 + b'"}}'),
    ],
)
def test_anything_but_the_stage_s_answer_stays_at_the_site(study, verb, spoil):
    manifest, network = study
    reply = RoundReply(spoil(network), 0, {})

    with pytest.raises((RefusedError, ValueError)):
        check_stage_egress(reply, job(manifest, verb), network=network)


def test_counts_and_metrics_do_not_ride_along(study):
    manifest, network = study

    with pytest.raises(RefusedError, match="something beside"):
        check_stage_egress(
            RoundReply(save(masked(network)), 3, {}), job(manifest, "mask"), network=network
        )
