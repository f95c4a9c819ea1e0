"""What each site was found to add to the federated model, where somebody measured it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segfed.study.contribution import Interval, read_contributions
from segfed.study.records import StudyRecord


def summarize_contributions(run_folder: Path, study: StudyRecord) -> dict[str, Any] | None:
    """The figures of ``contribution.json`` as elsewhere in the report; None without it.

    ``is_outdated`` says that the study has other federated models by now than those measured.

    Raises:
        ConfigError: If the file is damaged.
    """
    record = read_contributions(run_folder)
    if record is None:
        return None
    known = {model.sha256 for model in study.models if model.regime == "federated"}
    return {
        "is_outdated": not known.issuperset(record.models),
        "arm": record.arm,
        "seeds": list(record.seeds),
        "n_orders": record.n_orders,
        "n_bootstrap": record.n_bootstrap,
        "sites": {
            row.site: {
                "own": _estimate(row.own),
                "others": _estimate(row.others),
                "shapley": _estimate(row.shapley),
                "n_cases": record.n_cases[row.site],
            }
            for row in record.sites
        },
        "groups": [group.model_dump(mode="json") for group in record.groups],
    }


def _estimate(found: Interval) -> dict[str, float | None]:
    """A figure with its interval."""
    return {"mean": found.mean, "ci_low": found.low, "ci_high": found.high}
