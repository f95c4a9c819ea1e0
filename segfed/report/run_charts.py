"""Charts of how a run went: convergence round by round, and the effort behind each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from segfed.report import svg
from segfed.report.axes import WIDTH, axis, offsets, short_name
from segfed.report.text import number


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
    left, right, top, row_height = 96.0, WIDTH - 48, 8.0, 12.0 + 14.0 * len(arms)
    x = svg.linear(0, max(values) or 1.0, left, right)
    bottom = top + row_height * len(groups)
    body = axis(
        x, svg.round_ticks(0, max(values) or 1.0, wanted=3), top=top, bottom=bottom, digits=digits
    )
    spoken = []
    for row, (site, found) in enumerate(groups.items()):
        middle_y = top + row_height * (row + 0.5)
        body.append(svg.text(left - 8, middle_y + 4, short_name(site), kind="label", anchor="end"))
        for offset, arm in zip(offsets(len(arms), 14), arms, strict=True):
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


def _validated(convergence: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Round and validation Dice where it was measured."""
    return [
        (point["round"], point["validation_dice"])
        for point in convergence
        if point["validation_dice"] is not None
    ]
