"""The server's steps, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from federation.server_optimizer import GlobalModel, step
from segfed.rules import FederationRules


def model(value):
    """One array with and one without dimensions."""
    return {"a": np.full((2, 3), value, np.float32), "s": np.full((), value, np.float32)}


def values_after(means, **rules):
    """The weight after each round, from 0, when the mean of the updates lies at ``means``."""
    state, found = GlobalModel(model(0.0)), []
    for number, mean in enumerate(means, start=1):
        state = step(state, model(mean), rules=FederationRules(**rules), round_number=number)
        assert np.ptp(state.weights["a"]) == 0
        assert state.weights["a"][0, 0] == pytest.approx(float(state.weights["s"]), rel=1e-6)
        found.append(float(state.weights["s"]))
    return found


def test_fedavg_takes_the_mean():
    assert values_after([1.0, 5.0]) == [1.0, 5.0]


def test_fedavgm_goes_on_in_the_direction_of_earlier_rounds():
    # Round 1: m = 1, w = 0 + 1. Round 2: d = 1 - 1 = 0, m = 0.9 x 1 + 0 = 0.9, w = 1.9.
    # Round 3: d = 2.4 - 1.9 = 0.5, m = 0.81 + 0.5 = 1.31, w = 3.21.
    found = values_after([1.0, 1.0, 2.4], algorithm="fedavgm")

    assert found == pytest.approx([1.0, 1.9, 3.21], rel=1e-6)


def test_fedavgm_without_momentum_takes_a_part_of_the_step():
    # w + 0.5 (mean - w): 0.5, then 0.5 + 0.5 x 0.5.
    found = values_after(
        [1.0, 1.0], algorithm="fedavgm", server_momentum=0.0, server_learning_rate=0.5
    )

    assert found == pytest.approx([0.5, 0.75])


def test_fedadam_scales_the_step_by_the_second_moment():
    # Round 1: d = 1, m = 0.1, v = 0.01, rate = 0.1 sqrt(1 - 0.99^2) / (1 - 0.9^2) = 0.0742459,
    # w = 0.0742459 x 0.1 / (0.1 + 0.001) = 0.0735108.
    # Round 2: d = 1 - 0.0735108 = 0.9264892, m = 0.09 + 0.0926489 = 0.1826489,
    # v = 0.0099 + 0.01 x 0.8583822 = 0.0184838, its root 0.1359552,
    # rate = 0.1 sqrt(1 - 0.99^3) / (1 - 0.9^3) = 0.0635946,
    # w = 0.0735108 + 0.0635946 x 0.1826489 / 0.1369552 = 0.1583226.
    found = values_after([1.0, 1.0], algorithm="fedadam")

    assert found == pytest.approx([0.0735108, 0.1583226], rel=2e-5)


def test_fedyogi_adds_to_the_second_moment():
    # Round 1: d = 1, m = 0.1, v = 0 - 0.01 x 1 x sign(0 - 1) = 0.01,
    # w = 0.01 x 0.1 / 0.101 = 0.00990099.
    # Round 2: d = 0.99009901, m = 0.09 + 0.0990099 = 0.1890099,
    # v = 0.01 + 0.01 x 0.98029605 = 0.01980296, its root 0.14072299,
    # w = 0.00990099 + 0.01 x 0.1890099 / 0.14172299 = 0.0232376.
    found = values_after([1.0, 1.0], algorithm="fedyogi")

    assert found == pytest.approx([0.00990099, 0.0232376], rel=2e-5)


@pytest.mark.parametrize("algorithm", ["fedavgm", "fedadam", "fedyogi"])
def test_shapes_and_types_stay(algorithm):
    state = GlobalModel(model(0.0))
    for number in (1, 2):
        rules = FederationRules(algorithm=algorithm)
        state = step(state, model(1.0), rules=rules, round_number=number)

    for kept in (state.weights, *by_kind(state.memory)):
        assert {name: (a.shape, a.dtype) for name, a in kept.items()} == {
            "a": ((2, 3), np.float32),
            "s": ((), np.float32),
        }


def by_kind(memory):
    """The memory's parts, each named like the model."""
    kinds = {name.split(".")[0] for name in memory}
    return [
        {name[2:]: value for name, value in memory.items() if name[0] == kind} for kind in kinds
    ]


def test_a_step_changes_nothing_that_it_was_given():
    before = GlobalModel(model(1.0), {f"{k}.{n}": a for k in "mv" for n, a in model(0.5).items()})

    step(before, model(2.0), rules=FederationRules(algorithm="fedyogi"), round_number=2)

    assert {float(array.max()) for array in before.weights.values()} == {1.0}
    assert {float(array.max()) for array in before.memory.values()} == {0.5}
