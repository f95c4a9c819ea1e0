"""The Dice table that ends a study on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from segfed.report.score_charts import REGIMES
from segfed.report.text import MISSING, number, words


def summary_table(report: Mapping[str, Any]) -> Table:
    """Dice of each regime and arm, one column a structure, with external sites where there are any.

    Args:
        report: What ``build_report`` made.
    """
    structures = list(report["task"]["structures"])
    table = Table(
        title=f"Dice on hand-drawn test labels ({' and '.join(report['data']['kinds'])} data)",
        box=None,
        header_style="bold",
        title_justify="left",
        caption="mean of the sites' means; intervals are in the report",
        caption_justify="left",
    )
    table.add_column("regime")
    table.add_column("labels")
    for structure in structures:
        table.add_column(words(structure), justify="right")
    if report["external"]:
        table.add_column(f"at {', '.join(report['external'])} (external)", justify="right")
    for regime in (name for name in REGIMES if name in report["dice"]):
        for arm, found in report["dice"][regime].items():
            row = [_cell(found[structure]) for structure in structures]
            if report["external"]:
                row.append(_cell(report["external_overall"][regime][arm]))
            table.add_row(regime, arm if arm != "none" else MISSING, *row)
    return table


def _cell(found: Mapping[str, Any]) -> str:
    """``0.812``, without an interval: those would not fit into 80 columns."""
    return number(found["mean"], 3)
