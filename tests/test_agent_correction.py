"""SCAFFOLD's correction at a site."""

from __future__ import annotations

import pytest
import torch

from segfed.agent.correction import split_correction
from segfed.engine import build_network, from_bytes, to_bytes
from segfed.errors import WeightsError
from segfed.protocol import AgentError, AgentErrorCode
from tests.agent_samples import bean_manifest, job, labelled_site, make_agent, start_weights
from tests.engine_samples import sample_plan


@pytest.fixture
def network():
    return build_network(sample_plan(), seed=0)


def with_correction(state, value=1.0):
    correction = {f"correction.{name}": torch.full_like(t, value) for name, t in state.items()}
    return {**state, **correction}


def test_model_and_correction_are_taken_apart(network):
    state = network.state_dict()

    model, correction = split_correction(with_correction(state), network, algorithm="scaffold")

    assert model.keys() == correction.keys() == state.keys()
    assert {float(value.mean()) for value in correction.values()} == {1.0}


def test_the_first_round_brings_none(network):
    assert split_correction(network.state_dict(), network, algorithm="scaffold")[1] is None


def test_another_algorithm_has_none_to_split_off(network):
    content = with_correction(network.state_dict())

    model, correction = split_correction(content, network, algorithm="fedavg")

    assert (model.keys(), correction) == (content.keys(), None)


def test_a_correction_that_does_not_fit_is_refused(network):
    content = with_correction(network.state_dict(), value=float("nan"))

    with pytest.raises(WeightsError, match=r"the request's correction.*NaN"):
        split_correction(content, network, algorithm="scaffold")


def corrected_job(manifest):
    state = with_correction(from_bytes(start_weights(manifest)))
    return job(manifest, weights=to_bytes(state))


def test_a_site_trains_with_the_correction_and_sends_the_model_alone(tmp_path):
    site = labelled_site(tmp_path)
    manifest = bean_manifest(tmp_path, federation={"algorithm": "scaffold"})

    plain = from_bytes(make_agent(site, manifest).answer(job(manifest)).weights)
    found = from_bytes(make_agent(site, manifest).answer(corrected_job(manifest)).weights)

    assert found.keys() == plain.keys()
    assert any(not torch.equal(plain[name], found[name]) for name in plain)


def test_a_study_by_another_algorithm_refuses_a_correction(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)

    with pytest.raises(AgentError) as refused:
        make_agent(site, manifest).answer(corrected_job(manifest))

    assert refused.value.code == AgentErrorCode.WEIGHTS_UNUSABLE
