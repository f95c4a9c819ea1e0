"""Charts of scores: regimes side by side, label arms site by site, and from local to shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segfed.report import svg
from segfed.report.axes import WIDTH, axis, offsets, short_name, whisker
from segfed.report.text import MINUS, number, phrase, words

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
    body = axis(x, (0, 0.25, 0.5, 0.75, 1), top=top, bottom=bottom, digits=2)
    spoken = []
    for row, regime in enumerate(regimes):
        y = top + _ROW * (row + 0.5)
        body.append(svg.text(left - 8, y + 4, regime, kind="label", anchor="end"))
        arms = list(dice[regime])
        for offset, arm in zip(offsets(len(arms), 12), arms, strict=True):
            found = dice[regime][arm][structure]
            tip = f"{regime}, {arm}: Dice {phrase(found)}"
            spoken.append(tip)
            body += whisker(x, y + offset, found, kind=arm, tip=tip)
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
    left, right, top = 96.0, WIDTH - 48, 20.0
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
    body = axis(x, svg.round_ticks(low, high, wanted=4), top=top, bottom=bottom, digits=2,
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
        body.append(svg.text(left - 8, y + 4, short_name(name), kind=f"label {kind}", anchor="end"))
        tip = f"{name}: {phrase(value, signed=True)}"
        body += whisker(x, y, value, kind=kind, tip=tip, is_total=is_total)
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
    left, right, top, bottom = 72.0, WIDTH - 140, 26.0, 230.0
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
            svg.text(right + 8, end + 4, f"{number(shared, 3)}  {short_name(site)}", kind="value"),
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
