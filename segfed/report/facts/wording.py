"""How a fact is worded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segfed.report.text import words

Report = Mapping[str, Any]
"""What ``build_report`` makes."""


def labels_of(regime: str, arm: str) -> str:
    """A regime and its labels, as text."""
    return regime if arm == "none" else f"{regime}, {arm} labels"


def model_name(model: Mapping[str, Any]) -> str:
    """A model, as text."""
    return f"{model['regime']}, {model['arm']} labels, seed {model['seed']}, {model['train_site']}"


def count(n: int, noun: str) -> str:
    """``1 reader``, ``2 readers``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def value_range(values: tuple[float, float]) -> str:
    """``0.8 to 1.2``, or ``0.8`` where both are the same."""
    low, high = (f"{value:.3g}" for value in values)
    return low if low == high else f"{low} to {high}"


def times(values: list[float]) -> str:
    """``4 x 4 x 4``."""
    return " x ".join(f"{value:g}" for value in values)


def listed(values: Mapping[str, Any], *, but: tuple[str, ...] = ()) -> str:
    """Every setting with its value; none is left out for having its default."""
    return ", ".join(
        f"{words(name)}: {'not set' if value is None else value}"
        for name, value in values.items()
        if name not in but
    )
