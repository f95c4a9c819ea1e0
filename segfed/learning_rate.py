"""The learning rate over a run's steps, as sites take them and the server reckons. Light."""

from __future__ import annotations

import math

# The rate rises during this share of the steps: Adam's first estimates of the gradient's size are
# poor. Then it falls along a half cosine to zero.
_WARMUP_FRACTION = 0.1


def schedule(step: int, total_steps: int) -> float:
    """Share of the full learning rate at a step: a short rise, then half a cosine down to zero."""
    warmup = max(1, round(_WARMUP_FRACTION * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return max(0.5 * (1 + math.cos(math.pi * done)), 1e-3)


def summed_schedule(first_step: int, steps: int, *, total_steps: int) -> float:
    """Sum of the schedule over some steps: how far they go, in steps at the full rate."""
    return sum(schedule(step, total_steps) for step in range(first_step, first_step + steps))
