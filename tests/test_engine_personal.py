"""Which weights are of which kind of layer."""

from __future__ import annotations

from segfed.engine import build_network, personal_part
from tests.engine_samples import sample_plan


def part(*kinds, **plan):
    network = build_network(sample_plan(**plan), seed=0)
    return personal_part(network.state_dict(), network, kinds)


def test_norm_layers_have_a_scale_and_a_shift_for_each_convolution():
    found = part("norm")

    # Two levels down and one up, of two convolutions each: six norms of two tensors.
    assert len(found) == 12
    assert all(value.dim() == 1 and not name.startswith("heads") for name, value in found.items())


def test_the_head_is_the_last_convolution_at_every_scale():
    deep = {"features": (4, 8, 8, 8), "deep_supervision": True}

    assert set(part("head")) == {"heads.0.weight", "heads.0.bias"}
    assert len(part("head", **deep)) == 4


def test_several_kinds_are_taken_together_and_none_means_none():
    assert len(part("norm", "head")) == 14
    assert part() == {}
