"""What the report's charts share: their width, their axes, and a mean with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segfed.report import svg
from segfed.report.text import number

WIDTH = 340.0
"""Pixels; a chart fits a telephone without being scaled down, and three stand side by side."""


def axis(
    x: svg.Scale,
    ticks: Sequence[float],
    *,
    top: float,
    bottom: float,
    digits: int,
    signed: bool = False,
) -> list[str]:
    """Vertical grid lines with their values below."""
    return [
        shape
        for tick in ticks
        for shape in (
            svg.line(x(tick), top, x(tick), bottom, kind="grid"),
            svg.text(
                x(tick),
                bottom + 15,
                number(tick, digits, signed=signed and tick != 0),
                kind="tick",
                anchor="middle",
            ),
        )
    ]


def whisker(
    x: svg.Scale,
    y: float,
    found: Mapping[str, Any],
    *,
    kind: str,
    tip: str,
    is_total: bool = False,
) -> list[str]:
    """An interval with its mean; nothing where there is no mean."""
    if found["mean"] is None:
        return []
    shapes = []
    if found["ci_low"] is not None:
        shapes.append(
            svg.line(x(found["ci_low"]), y, x(found["ci_high"]), y, kind=f"whisker {kind}")
        )
    mark = svg.diamond if is_total else svg.dot
    return [*shapes, mark(x(found["mean"]), y, kind=kind, tip=tip)]


def offsets(count: int, gap: float) -> list[float]:
    """Vertical offsets that centre a few marks on a row."""
    return [gap * (index - (count - 1) / 2) for index in range(count)]


def short_name(name: str) -> str:
    """A site's name as charts have room for it; tables and tips beside them hold all of it.

    Cut in the middle, because names of sites often differ in their ends.
    """
    return name if len(name) <= 14 else f"{name[:7]}…{name[-6:]}"
