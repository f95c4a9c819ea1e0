"""What may leave a site."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save

from segfed.agent.egress import check_egress, payload
from segfed.agent.refusal import RefusedError
from segfed.engine import build_network, read_plan, to_bytes
from segfed.privacy import compress
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


def compressed(plan, method):
    """An update of the study's network in which every weight grows by one."""
    state = build_network(plan, seed=0).state_dict()
    return compress(
        {name: np.ones(t.shape, np.float32) for name, t in state.items()}, method=method
    )


def compressed_refusal(content, plan, compression="int8"):
    network = build_network(plan, seed=0)
    reply = RoundReply(content, 2, {})
    with pytest.raises(RefusedError) as refused:
        check_egress(reply, plan=plan, network=network, compression=compression)
    return str(refused.value)


@pytest.mark.parametrize("method", ["fp16", "int8", "int4"])
def test_an_update_may_leave_in_the_form_that_the_study_says(plan, method):
    network, content = build_network(plan, seed=0), save_arrays(compressed(plan, method))

    check_egress(RoundReply(content, 2, {}), plan=plan, network=network, compression=method)
    assert "is missing" in refusal(RoundReply(content, 2, {}), plan)


def test_whole_weights_stay_where_the_study_says_int8(plan):
    content = to_bytes(build_network(plan, seed=0).state_dict())

    assert "other arrays" in compressed_refusal(content, plan)


def test_an_update_of_another_form_stays(plan):
    assert "other arrays" in compressed_refusal(save_arrays(compressed(plan, "int4")), plan)


def test_what_is_hidden_beside_an_update_stays(plan):
    arrays = compressed(plan, "int8")
    infinite = arrays | {"scales": np.full_like(arrays["scales"], np.inf)}

    assert "infinity" in compressed_refusal(save_arrays(infinite), plan)
    text = save_arrays(arrays, metadata={"patient": "Jane Doe"})
    assert "bytes beside" in compressed_refusal(text, plan)
