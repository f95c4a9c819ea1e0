"""The schedule as the server sums it; its shape is tested where it trains."""

from __future__ import annotations

import pytest

from segfed.learning_rate import schedule, summed_schedule


def test_a_sum_is_that_of_its_steps():
    # Of 20 steps two warm up, at a half and the whole rate; then the cosine begins at 1.
    assert summed_schedule(0, 3, total_steps=20) == 0.5 + 1 + 1


def test_rounds_add_up_to_the_run():
    rounds = [summed_schedule(first, 5, total_steps=20) for first in (0, 5, 10, 15)]

    assert sum(rounds) == pytest.approx(sum(schedule(step, 20) for step in range(20)))
