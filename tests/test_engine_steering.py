"""What keeps a site's steps together with the others', against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from segfed.engine.steering import Steering


def network_at(value):
    """One weight."""
    network = torch.nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(value)
    return network


def test_the_proximal_term_pulls_back_by_mu_times_the_distance():
    # The gradient of (0.5 / 2) (w - 2)² at w = 5 is 0.5 x 3 = 1.5, added to 1.
    network = network_at(2.0)
    steering = Steering(network, mu=0.5, correction=None)
    network.weight.data.fill_(5.0)
    network.weight.grad = torch.ones(1, 1)

    steering.before_step()

    assert network.weight.grad.item() == 2.5


def test_a_correction_is_taken_off_times_the_rate():
    network = network_at(2.0)
    network.weight.grad = torch.ones(1, 1)
    steering = Steering(network, mu=0.0, correction={"weight": torch.full((1, 1), 3.0)})

    steering.before_step()
    steering.after_step(0.5)

    assert network.weight.grad.item() == 1  # a correction is no gradient
    assert network.weight.item() == 0.5  # 2 - 0.5 x 3


def test_for_plain_gradient_descent_it_is_the_step_of_the_paper():
    # y - eta (g - c_i + c) = 1 - 0.1 (4 - 0.5 + 2) = 0.45, with c - c_i = 1.5.
    network = network_at(1.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    steering = Steering(network, mu=0.0, correction={"weight": torch.full((1, 1), 1.5)})
    network.weight.grad = torch.full((1, 1), 4.0)

    optimizer.step()
    steering.after_step(0.1)

    assert network.weight.item() == pytest.approx(0.45)
