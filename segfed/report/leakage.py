"""What attacks on the models of a run found, where somebody tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segfed.report.values import json_number
from segfed.study.leakage import read_attacks


def summarize_attacks(run_folder: Path) -> dict[str, Any] | None:
    """The rows of ``attacks.json`` with estimates as elsewhere in the report; None without it.

    Raises:
        ConfigError: If the file is damaged.
    """
    record = read_attacks(run_folder)
    if record is None:
        return None
    return {
        "n_bootstrap": record.n_bootstrap,
        "membership": [
            row.model_dump(mode="json", exclude={"result"})
            | {
                "advantage": _estimate(
                    row.result.advantage, row.result.advantage_low, row.result.advantage_high
                ),
                "auc": _estimate(row.result.auc, row.result.auc_low, row.result.auc_high),
                "n_members": row.result.n_members,
                "n_others": row.result.n_others,
            }
            for row in record.membership
        ],
        "not_attacked": list(record.not_attacked),
        "inversion": [
            {
                "model": row.model,
                "exposure": row.result.exposure,
                "correlation": row.result.correlation,
                "chance": row.result.chance,
                "advantage": _estimate(
                    row.result.advantage, row.result.advantage_low, row.result.advantage_high
                ),
                "repeats": row.result.repeats,
            }
            for row in record.inversion
        ],
    }


def _estimate(mean: float, low: float, high: float) -> dict[str, float | None]:
    """A figure with its interval; a number that JSON cannot hold is none."""
    return {"mean": json_number(mean), "ci_low": json_number(low), "ci_high": json_number(high)}
