"""The few shapes from which the report's charts are drawn, as text for inline SVG.

Colors and fonts come from the page's style sheet by class, so that charts follow its light and
dark dress. Lengths are CSS pixels of the chart's own box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise

Scale = Callable[[float], float]


def figure(
    body: Sequence[str], *, width: float, height: float, title: str, description: str
) -> str:
    """A chart with the text that a screen reader speaks for it."""
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(f"{title}. {description}")}">'
        f"{''.join(body)}</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, *, kind: str) -> str:
    """A straight line of a style-sheet class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def polyline(points: Sequence[tuple[float, float]], *, kind: str) -> str:
    """Connected points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def dot(x: float, y: float, *, kind: str, radius: float = 3.5, tip: str = "") -> str:
    """A filled circle; ``tip`` appears under the pointer."""
    title = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{title}</circle>'


def diamond(x: float, y: float, *, kind: str, radius: float = 5.5, tip: str = "") -> str:
    """A filled diamond, by custom the summary of a forest plot."""
    corners = ((x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
    title = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<polygon class="{kind}" points="{points}">{title}</polygon>'


def text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> str:
    """Words whose baseline begins, ends or is centred at a point."""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """A map from values to pixels; a range without extent maps to the middle."""
    if high == low:
        low, high = low - 1, high + 1
    return lambda value: start + (value - low) / (high - low) * (end - start)


def round_ticks(low: float, high: float, *, wanted: int = 4) -> list[float]:
    """About ``wanted`` round numbers between two values, both ends included where round."""
    if high <= low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def spread(positions: Sequence[float], *, gap: float) -> list[float]:
    """The same positions moved as little as needed for labels to stand ``gap`` apart, in order."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    moved = list(positions)
    # A few sweeps push overlapping neighbours apart evenly, so that a cluster stays centred.
    for _ in range(60):
        for lower, upper in pairwise(order):
            overlap = gap - (moved[upper] - moved[lower])
            if overlap > 0:
                moved[lower] -= overlap / 2
                moved[upper] += overlap / 2
    return moved
