"""Charts with a dot for each test case: Dice against size, and volumes against the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segfed.report import svg
from segfed.report.axes import WIDTH
from segfed.report.text import number, words

_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, WIDTH - 12, 12.0, 196.0
_MM3_PER_ML = 1000.0


def size_chart(found: Mapping[str, Any], structure: str) -> str | None:
    """Dice of each case by the reference's volume, on a logarithmic axis; None without volumes."""
    points = [
        (row["reference_mm3"] / _MM3_PER_ML, row["dice"][arm], arm, row)
        for row in found["cases"]
        for arm in row["dice"]
        if row["reference_mm3"] and row["dice"][arm] is not None
    ]
    if not points:
        return None
    low, high = (math.log10(end(p[0] for p in points)) for end in (min, max))
    x, y = svg.linear(low, high, _LEFT + 8, _RIGHT - 8), svg.linear(0, 1, _BOTTOM, _TOP)
    decades = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    ticks = decades if len(decades) > 1 else [10**low, 10**high]
    body = _rows(y, (0, 0.25, 0.5, 0.75, 1), digits=2)
    body += [
        svg.text(
            x(math.log10(tick)), _BOTTOM + 15, _millilitres(tick), kind="tick", anchor="middle"
        )
        for tick in ticks
    ]
    body.append(svg.text(_RIGHT, _BOTTOM + 30, "reference, ml", kind="note", anchor="end"))
    body += [
        svg.dot(x(math.log10(volume)), y(dice), kind=f"faint {arm}", radius=3,
                tip=f"{_name(row)}, {arm}: {_millilitres(volume)} ml, Dice {number(dice, 3)}")
        for volume, dice, arm, row in points
    ]  # fmt: skip
    return svg.figure(
        body,
        width=WIDTH,
        height=_BOTTOM + 34,
        title=f"Dice of {words(structure)} by its volume",
        description=f"{len(points)} dots, volumes from {_millilitres(10**low)} to "
        f"{_millilitres(10**high)} ml",
    )


def agreement_chart(found: Mapping[str, Any], structure: str) -> str | None:
    """Predicted minus reference volume by their mean, after Bland and Altman; None without any."""
    points = [
        (
            (row["reference_mm3"] + difference / 2) / _MM3_PER_ML,
            difference / _MM3_PER_ML,
            arm,
            row,
        )
        for row in found["cases"]
        for arm, difference in row["volume_difference_mm3"].items()
        if row["reference_mm3"] is not None and difference is not None
    ]
    if not points:
        return None
    limits = {
        arm: [None if value is None else value / _MM3_PER_ML for value in ends]
        for arm, of in found["agreement"].items()
        for ends in [(of["low_mm3"], of["mean_mm3"], of["high_mm3"])]
    }
    heights = [p[1] for p in points] + [v for of in limits.values() for v in of if v is not None]
    low, high = min(0.0, *heights), max(0.0, *heights)
    x = svg.linear(0, max(p[0] for p in points) or 1.0, _LEFT + 8, _RIGHT - 8)
    y = svg.linear(low, high, _BOTTOM, _TOP)
    body = _rows(y, svg.round_ticks(low, high), digits=0 if high - low > 5 else 2)
    body.append(svg.line(_LEFT, y(0), _RIGHT, y(0), kind="zero"))
    body += [
        svg.text(x(tick), _BOTTOM + 15, f"{tick:g}", kind="tick", anchor="middle")
        for tick in svg.round_ticks(0, max(p[0] for p in points))
    ]
    body.append(svg.text(_RIGHT, _BOTTOM + 30, "mean of both, ml", kind="note", anchor="end"))
    for arm, ends in limits.items():
        body += [
            svg.line(_LEFT, y(value), _RIGHT, y(value), kind=f"{kind} {arm}")
            for value, kind in zip(ends, ("limit", "whisker", "limit"), strict=True)
            if value is not None
        ]
    body += [
        svg.dot(x(mean), y(difference), kind=f"faint {arm}", radius=3,
                tip=f"{_name(row)}, {arm}: {number(difference, 1, signed=True)} ml")
        for mean, difference, arm, row in points
    ]  # fmt: skip
    spoken = "; ".join(
        f"{arm}: mean {number(mean, 1, signed=True)} ml, limits of agreement "
        f"{number(below, 1, signed=True)} to {number(above, 1, signed=True)} ml"
        for arm, (below, mean, above) in limits.items()
    )
    return svg.figure(
        body,
        width=WIDTH,
        height=_BOTTOM + 34,
        title=f"Predicted minus reference volume of {words(structure)}",
        description=spoken,
    )


def _rows(y: svg.Scale, ticks: tuple[float, ...] | list[float], *, digits: int) -> list[str]:
    """Horizontal grid lines with their values at the left."""
    return [
        shape
        for tick in ticks
        for shape in (
            svg.line(_LEFT, y(tick), _RIGHT, y(tick), kind="grid"),
            svg.text(_LEFT - 6, y(tick) + 4, number(tick, digits), kind="tick", anchor="end"),
        )
    ]


def _millilitres(value: float) -> str:
    """Two digits at least, and none behind the point where two stand before it."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _name(row: Mapping[str, Any]) -> str:
    """A case and its site."""
    return f"{row['site']} / {row['case']}"
