"""What may leave a site."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save

from segfed.agent.egress import check_egress, payload
from segfed.agent.refusal import RefusedError
from segfed.engine import build_network, read_plan, to_bytes
from segfed.protocol import AgentErrorCode, RoundReply
from tests.agent_samples import bean_manifest


@pytest.fixture
def plan(tmp_path):
    return read_plan(bean_manifest(tmp_path).plan)


def refusal(reply, plan):
    with pytest.raises(RefusedError) as refused:
        check_egress(reply, plan=plan, network=build_network(plan, seed=0))
    assert refused.value.code == AgentErrorCode.EGRESS_REFUSED
    return str(refused.value)


def test_weights_of_the_study_s_network_and_known_metrics_may_leave(plan):
    network = build_network(plan, seed=0)
    reply = RoundReply(to_bytes(network.state_dict()), 2, {"loss": 1.0, "dice_bean": 0.5})

    check_egress(reply, plan=plan, network=network)


@pytest.mark.parametrize("name", ["dice_kidney", "patient", "dice_"])
def test_a_metric_that_is_not_on_the_list_stays(plan, name):
    assert name in refusal(RoundReply(b"", 2, {name: 0.5}), plan)


def test_a_metric_that_is_not_a_number_stays(plan):
    assert "dice_core" in refusal(RoundReply(b"", 2, {"dice_core": math.nan}), plan)


def test_a_further_tensor_stays(plan):
    state = build_network(plan, seed=0).state_dict() | {"image": torch.zeros(4)}

    assert "image is unknown" in refusal(RoundReply(to_bytes(state), 2, {}), plan)


def test_weights_that_are_not_finite_stay(plan):
    state = build_network(plan, seed=0).state_dict()
    name = next(iter(state))
    state[name] = torch.full_like(state[name], math.inf)

    assert "NaN or infinity" in refusal(RoundReply(to_bytes(state), 2, {}), plan)


def test_text_in_the_header_of_the_weights_stays(plan):
    state = {k: v.contiguous() for k, v in build_network(plan, seed=0).state_dict().items()}
    content = save(state, metadata={"patient": "Jane Doe"})

    assert "bytes beside" in refusal(RoundReply(content, 2, {}), plan)


def test_a_count_must_be_a_whole_number(plan):
    assert "number of cases" in refusal(RoundReply(b"", -1, {}), plan)


def test_the_audited_bytes_are_the_facts_and_the_weights():
    content = payload(RoundReply(b"weights", 2, {"loss": 0.5}))

    assert content == b'{"metrics": {"loss": 0.5}, "n_cases": 2}\nweights'
