"""Weights that come from elsewhere are not trusted."""

from __future__ import annotations

import pytest
import torch

from segfed.engine import (
    build_network,
    check_weights,
    copy_state,
    from_bytes,
    read_weights,
    to_bytes,
    write_weights,
)
from segfed.errors import WeightsError
from segfed.files import sha256_file
from tests.engine_samples import sample_plan

BIAS = "heads.0.bias"


@pytest.fixture
def network():
    return build_network(sample_plan(), seed=0)


def test_weights_survive_the_way_through_bytes(network):
    state = network.state_dict()

    again = from_bytes(to_bytes(state))

    check_weights(again, network)
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_equal_weights_give_equal_bytes_whatever_their_order_and_layout(network):
    state = network.state_dict()
    shuffled = {
        name: value.to(memory_format=torch.channels_last_3d) if value.ndim == 5 else value
        for name, value in reversed(state.items())
    }

    assert to_bytes(shuffled) == to_bytes(state)


def test_a_file_is_named_by_the_hash_of_its_content(network, tmp_path):
    path = tmp_path / "model.safetensors"

    sha256 = write_weights(path, network.state_dict())

    assert sha256 == sha256_file(path)
    check_weights(read_weights(path), network)


def test_a_copy_does_not_change_with_the_network(network):
    before = copy_state(network)

    with torch.no_grad():
        network.heads[0].bias += 1

    assert torch.equal(before[BIAS] + 1, network.heads[0].bias)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda bias: bias[:1], r"heads.0.bias has shape \(1,\), not \(3,\)"),
        (lambda bias: bias[None], r"shape \(1, 3\)"),
        (lambda bias: bias.half(), "type torch.float16, not torch.float32"),
        (lambda bias: bias * float("nan"), "holds NaN or infinity"),
        (lambda bias: bias + float("inf"), "holds NaN or infinity"),
    ],
)
def test_a_tensor_that_would_merely_be_accepted_is_refused(network, change, expected):
    state = copy_state(network)
    state[BIAS] = change(state[BIAS])

    with pytest.raises(WeightsError, match=expected):
        check_weights(state, network)


def test_missing_and_unknown_tensors_are_named_together(network):
    state = copy_state(network)
    state["tail.bias"] = state.pop(BIAS)

    with pytest.raises(WeightsError, match=r"heads.0.bias is missing; tail.bias is unknown"):
        check_weights(state, network, source="site north")


def test_damaged_bytes_are_refused(network, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_bytes(network.state_dict())[:-10])

    with pytest.raises(WeightsError, match=r"model.safetensors holds .* not safetensors"):
        read_weights(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"No weights at .*gone"):
        read_weights(tmp_path / "gone.safetensors")
