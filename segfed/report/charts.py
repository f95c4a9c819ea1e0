"""The report's charts. Each is small, so that several stand side by side or below each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from segfed.report import svg
from segfed.report.text import MINUS, number, phrase, words

WIDTH = 340.0
"""Pixels; a chart fits a telephone without being scaled down."""

REGIMES = ("untrained", "local", "ensemble", "federated", "pooled")
"""From nothing learned to everything shared."""

_ROW = 30.0


def regime_chart(report: Mapping[str, Any], structure: str) -> str:
    """Dice with interval of each regime and arm for one structure; the axis runs from 0 to 1."""
    dice = report["dice"]
    regimes = [regime for regime in REGIMES if regime in dice]
    left, right, top = 72.0, WIDTH - 48, 12.0
    x = svg.linear(0, 1, left, right)
    bottom = top + _ROW * len(regimes)
    body = _axis(x, (0, 0.25, 0.5, 0.75, 1), top=top, bottom=bottom, digits=2)
    spoken = []
    for row, regime in enumerate(regimes):
        y = top + _ROW * (row + 0.5)
        body.append(svg.text(left - 8, y + 4, regime, kind="label", anchor="end"))
        arms = list(dice[regime])
        for offset, arm in zip(_offsets(len(arms), 12), arms, strict=True):
            found = dice[regime][arm][structure]
            tip = f"{regime}, {arm}: Dice {phrase(found)}"
            spoken.append(tip)
            body += _whisker(x, y + offset, found, kind=arm, tip=tip)
            body.append(
                svg.text(WIDTH - 2, y + offset + 4, number(found["mean"], 3), kind=f"value {arm}",
                         anchor="end")
            )  # fmt: skip
    return svg.figure(
        body,
        width=WIDTH,
        height=bottom + 22,
        title=f"Dice of {words(structure)} by training regime",
        description="; ".join(spoken),
    )


def forest_chart(regime: Mapping[str, Any], structure: str, *, margin: float) -> str:
    """Assisted minus manual Dice at each site and over all, with zero and the margin."""
    found = regime["structures"][structure]
    rows = [*found["sites"].items(), ("these sites", found)]
    left, right, top = 84.0, WIDTH - 48, 20.0
    ends = [0.0, -margin, margin] + [
        value
        for _, row in rows
        for value in (row["ci_low"], row["ci_high"], row["mean"])
        if value is not None
    ]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low)
    x = svg.linear(low - pad, high + pad, left, right)
    bottom = top + 22.0 * len(rows) + 6
    body = _axis(x, svg.round_ticks(low, high, wanted=4), top=top, bottom=bottom, digits=2,
                 signed=True)  # fmt: skip
    body.append(svg.line(x(0), top, x(0), bottom, kind="zero"))
    body.append(svg.line(x(-margin), top, x(-margin), bottom, kind="margin"))
    body.append(
        svg.text(x(-margin), top - 7, f"margin {MINUS}{margin:g}", kind="note", anchor="middle")
    )
    for row, (name, value) in enumerate(rows):
        y = top + 22.0 * (row + 0.5) + (6 if name == "these sites" else 0)
        is_total = name == "these sites"
        kind = "total" if is_total else "plain"
        body.append(svg.text(left - 8, y + 4, name, kind=f"label {kind}", anchor="end"))
        tip = f"{name}: {phrase(value, signed=True)}"
        body += _whisker(x, y, value, kind=kind, tip=tip, is_total=is_total)
        body.append(
            svg.text(WIDTH - 2, y + 4, number(value["mean"], 3, signed=True), kind=f"value {kind}",
                     anchor="end")
        )  # fmt: skip
    return svg.figure(
        body,
        width=WIDTH,
        height=bottom + 22,
        title=f"Assisted minus manual Dice of {words(structure)}",
        description="; ".join(f"{name}: {phrase(row, signed=True)}" for name, row in rows),
    )


def slope_chart(report: Mapping[str, Any], arm: str) -> str | None:
    """Each site's own local model against the federated one; None where a run lacks either."""
    pairs = {
        site: (
            found["own_local_model"].get(arm, {}).get("mean"),
            found["overall"].get("federated", {}).get(arm, {}).get("mean"),
        )
        for site, found in report["sites"].items()
    }
    known = {site: (a, b) for site, (a, b) in pairs.items() if a is not None and b is not None}
    if not known:
        return None
    left, right, top, bottom = 60.0, WIDTH - 128, 26.0, 230.0
    values = [value for pair in known.values() for value in pair]
    y = svg.linear(min(values), max(values), bottom - 8, top + 8)
    body = [
        svg.text(left, 14, "own model", kind="label", anchor="end"),
        svg.text(right, 14, "federated", kind="label"),
        svg.line(left, top, left, bottom, kind="grid"),
        svg.line(right, top, right, bottom, kind="grid"),
    ]
    starts = svg.spread([y(a) for a, _ in known.values()], gap=13)
    ends = svg.spread([y(b) for _, b in known.values()], gap=13)
    for (site, (own, shared)), start, end in zip(known.items(), starts, ends, strict=True):
        kind = arm if shared >= own else "loss"
        body += [
            svg.line(left, y(own), right, y(shared), kind=f"slope {kind}"),
            svg.dot(left, y(own), kind=kind, radius=3),
            svg.dot(right, y(shared), kind=kind, radius=3),
            svg.text(left - 8, start + 4, number(own, 3), kind="value", anchor="end"),
            svg.text(right + 8, end + 4, f"{number(shared, 3)}  {site}", kind="value"),
        ]
    spoken = "; ".join(
        f"{site} from {number(own, 3)} to {number(shared, 3)}"
        for site, (own, shared) in known.items()
    )
    return svg.figure(
        body,
        width=WIDTH,
        height=bottom + 6,
        title=f"Dice from each site's own model to the federated model, {arm} labels",
        description=spoken,
    )


def convergence_chart(federation: Sequence[Mapping[str, Any]]) -> str | None:
    """Mean validation Dice after each round of each federated training; None without any."""
    runs = [
        (run["arm"], run["seed"], points)
        for run in federation
        if (points := _validated(run["convergence"]))
    ]
    if not runs:
        return None
    left, right, top, bottom = 40.0, WIDTH - 62, 12.0, 190.0
    last = max(point[0] for _, _, points in runs for point in points)
    highest = max(point[1] for _, _, points in runs for point in points)
    x, y = svg.linear(0, last, left, right), svg.linear(0, max(highest, 0.1), bottom, top)
    body = [
        shape
        for tick in svg.round_ticks(0, max(highest, 0.1))
        for shape in (
            svg.line(left, y(tick), right, y(tick), kind="grid"),
            svg.text(left - 6, y(tick) + 4, number(tick, 2), kind="tick", anchor="end"),
        )
    ]
    body += [
        svg.text(x(tick), bottom + 15, f"{tick:g}", kind="tick", anchor="middle")
        for tick in svg.round_ticks(0, last)
        if tick == int(tick)
    ]
    body.append(svg.text(right, bottom + 30, "rounds", kind="note", anchor="end"))
    ends = {arm: points[-1] for arm, _, points in reversed(runs)}
    places = svg.spread([y(point[1]) for point in ends.values()], gap=14)
    for arm, seed, points in runs:
        body.append(svg.polyline([(x(a), y(b)) for a, b in points], kind=f"curve {arm}"))
        body += [
            svg.dot(x(a), y(b), kind=arm, radius=1.8,
                    tip=f"{arm}, seed {seed}, round {a}: {number(b, 3)}")
            for a, b in points
        ]  # fmt: skip
    body += [
        svg.text(x(point[0]) + 7, place + 4, arm, kind=f"value {arm}")
        for (arm, point), place in zip(ends.items(), places, strict=True)
    ]
    return svg.figure(
        body,
        width=WIDTH,
        height=bottom + 34,
        title="Mean validation Dice after each round",
        description="; ".join(
            f"{arm}, seed {seed}: {number(points[0][1], 3)} after round {points[0][0]}, "
            f"{number(points[-1][1], 3)} after round {points[-1][0]}"
            for arm, seed, points in runs
        ),
    )


def strip_chart(
    groups: Mapping[str, Mapping[str, Sequence[float]]], *, title: str, digits: int
) -> str | None:
    """One dot a label, one row a site and arm, a tick at the median; None without any value.

    Args:
        groups: By site and arm, one value a label.
        title: What the values are.
        digits: Of the printed medians.
    """
    arms = list(dict.fromkeys(arm for found in groups.values() for arm in found if found[arm]))
    values = [value for found in groups.values() for arm in arms for value in found[arm]]
    if not values:
        return None
    left, right, top, row_height = 84.0, WIDTH - 48, 8.0, 12.0 + 14.0 * len(arms)
    x = svg.linear(0, max(values) or 1.0, left, right)
    bottom = top + row_height * len(groups)
    body = _axis(
        x, svg.round_ticks(0, max(values) or 1.0, wanted=3), top=top, bottom=bottom, digits=digits
    )
    spoken = []
    for row, (site, found) in enumerate(groups.items()):
        middle_y = top + row_height * (row + 0.5)
        body.append(svg.text(left - 8, middle_y + 4, site, kind="label", anchor="end"))
        for offset, arm in zip(_offsets(len(arms), 14), arms, strict=True):
            if not found[arm]:
                continue
            y, middle = middle_y + offset, median(found[arm])
            spoken.append(f"{site}, {arm}: median {number(middle, digits)} of {len(found[arm])}")
            body += [svg.dot(x(value), y, kind=f"faint {arm}", radius=3) for value in found[arm]]
            body.append(svg.line(x(middle), y - 6, x(middle), y + 6, kind=f"median {arm}"))
            body.append(
                svg.text(WIDTH - 2, y + 4, number(middle, digits), kind=f"value {arm}",
                         anchor="end")
            )  # fmt: skip
    return svg.figure(
        body, width=WIDTH, height=bottom + 22, title=title, description="; ".join(spoken)
    )


def _axis(
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


def _whisker(
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


def _offsets(count: int, gap: float) -> list[float]:
    """Vertical offsets that centre a few marks on a row."""
    return [gap * (index - (count - 1) / 2) for index in range(count)]


def _validated(convergence: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Round and validation Dice where it was measured."""
    return [
        (point["round"], point["validation_dice"])
        for point in convergence
        if point["validation_dice"] is not None
    ]
