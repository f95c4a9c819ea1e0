"""Whether an image is like those that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from segfed.engine.plan import Plan
from segfed.settings import Settings
from segfed.volumes import Grid

Features = dict[str, float]
"""An image in numbers, by name."""

_AXES = ("left to right", "back to front", "foot to head")
_QUANTILES = (5, 25, 50, 75, 95)
# As many times further from the median than the 5th or 95th percentile of the training cases: about
# five standard deviations of a normal feature.
_FAR = 3.0
# Lengths differ by less than this share, and shares and intensities by less than this, without any
# meaning, also where all training cases are alike.
_SMALLEST_RATIO = 1.1
_SMALLEST_STEP = 0.05
_DIGITS = 3


class InputRange(Settings):
    """The usual images of a model's training cases: of each feature three percentiles."""

    version: Literal[1] = 1
    n_cases: PositiveInt
    features: dict[str, tuple[float, float, float]]
    """5th, 50th and 95th percentile over the cases, with three digits."""


def image_features(image: NDArray[np.float32], *, grid: Grid, plan: Plan) -> Features:
    """What tells another scanner, unit, phase or field of view from the usual ones.

    Args:
        image: As the network sees it, shape (C, I, J, K): for CT from 0 to 1 in the plan's window,
            for MR in standard deviations from the mean of what is not background.
        grid: The image's own grid, for its spacing.
        plan: The model's plan.
    """
    spacing_mm = grid.spacing_mm
    features = {"finest spacing (mm)": min(spacing_mm), "coarsest spacing (mm)": max(spacing_mm)}
    features |= {
        f"extent {axis} (mm)": size * mm
        for axis, size, mm in zip(_AXES, image.shape[1:], plan.spacing_mm, strict=True)
    }
    for name, channel in zip(plan.channels, image, strict=True):
        features |= _intensities(name, channel, is_ct=plan.modality == "CT")
    return {name: float(f"{value:.{_DIGITS}g}") for name, value in features.items()}


def input_range(cases: Sequence[Features]) -> InputRange:
    """The usual range of some training cases, one or more."""
    rows = {name: [case[name] for case in cases] for name in cases[0]}
    return InputRange(
        n_cases=len(cases),
        features={name: _percentiles(values) for name, values in rows.items()},
    )


def drift(usual: InputRange, features: Mapping[str, float]) -> tuple[str, ...]:
    """In words, each feature that lies far from all that the model was trained on.

    Far is three times as far from the median as the 5th or the 95th percentile of the training
    cases. A flag is a reason to look: it says nothing about the label itself.

    Args:
        usual: Of the model's training cases.
        features: Of the image in question; those that the range does not know are not judged.
    """
    return tuple(
        f"{name} is {value:g}, usually {usual.features[name][0]:g} to {usual.features[name][2]:g}"
        for name, value in features.items()
        if name in usual.features and _is_far(name, value, usual.features[name])
    )


def _intensities(name: str, channel: NDArray[np.float32], *, is_ct: bool) -> Features:
    """Shares of the voxels at the ends, and percentiles of the others."""
    background = float(np.mean(channel <= 0 if is_ct else channel == 0))
    features = {f"{name}: share of background": background}
    if is_ct:
        features[f"{name}: share above the window"] = float(np.mean(channel >= 1))
    shown = channel[(channel > 0) & (channel < 1)] if is_ct else channel[channel != 0]
    if shown.size:
        values = np.percentile(shown, _QUANTILES)
        unit = "in the window" if is_ct else "in deviations"
        features |= {
            f"{name}: percentile {q} {unit}": float(v)
            for q, v in zip(_QUANTILES, values, strict=True)
        }
    return features


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """5th, 50th and 95th, rounded."""
    low, middle, high = (float(f"{v:.{_DIGITS}g}") for v in np.percentile(values, (5, 50, 95)))
    return low, middle, high


def _is_far(name: str, value: float, usual: tuple[float, float, float]) -> bool:
    """Whether a value lies far beyond the usual ones; lengths by their ratios."""
    low, middle, high = usual
    smallest = _SMALLEST_STEP
    if name.endswith("(mm)"):
        value, low, middle, high = (float(np.log(v)) for v in (value, low, middle, high))
        smallest = float(np.log(_SMALLEST_RATIO))
    side = high - middle if value > middle else middle - low
    return abs(value - middle) > _FAR * max(side, smallest)
