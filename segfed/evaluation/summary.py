"""What a table says about many scores: never a mean without the cases behind it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from segfed.evaluation.profiles import DEFINITIONS, Profile, undefined_reason
from segfed.evaluation.ranking import kits_score
from segfed.evaluation.scorecard import Score
from segfed.files import write_text

PACKAGES = ("segfed", "numpy", "scipy", "surface-distance", "connected-components-3d")


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write scores in long form, in full precision; undefined ones as ``nan``, infinite as ``inf``.

    The columns are case, structure, metric and value.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("case", "structure", "metric", "value"))
    # repr gives the shortest digits that read back as the same number.
    writer.writerows((row.case_id, row.structure, row.metric, repr(row.value)) for row in scores)
    write_text(path, table.getvalue())


def summarize(
    scores: Sequence[Score],
    *,
    profile: Profile,
    missing: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that ``summary.json`` holds, ready for JSON.

    Args:
        scores: Rows of any number of cases under one profile.
        profile: The profile of the rows.
        missing: Cases without a prediction.
        extra: Predictions without a reference.
    """
    summary: dict[str, Any] = {
        "profile": profile.name,
        "n_cases": len({score.case_id for score in scores}),
        "missing_predictions": list(missing),
        "extra_predictions": list(extra),
        "structures": {
            structure: _summarize_structure(structure, scores, profile)
            for structure in profile.structures
        },
        "undefined": [
            {
                "case": score.case_id,
                "structure": score.structure,
                "metric": score.metric,
                "value": None,
                "reason": reason,
            }
            for score in scores
            if (reason := undefined_reason(score.metric, score.value)) is not None
        ],
        "definitions": {metric: DEFINITIONS[metric] for metric in profile.metrics},
        "versions": {package: version(package) for package in PACKAGES},
    }
    if profile.name.startswith("kits") and scores:
        summary["kits_score"] = asdict(kits_score(scores))
    return summary


def describe(values: Sequence[float]) -> dict[str, Any]:
    """Mean of the finite values, median of all defined ones, and how many were neither.

    The median counts infinite values, because it can: it is None only if at least half of the
    values are infinite, or none is defined.
    """
    defined = [value for value in values if not math.isnan(value)]
    finite = [value for value in defined if math.isfinite(value)]
    median = _median(defined)
    return {
        "mean": float(np.mean(finite)) if finite else None,
        "median": median if math.isfinite(median) else None,
        "n": len(finite),
        "n_nan": len(values) - len(defined),
        "n_infinite": len(defined) - len(finite),
    }


def _summarize_structure(
    structure: str, scores: Sequence[Score], profile: Profile
) -> dict[str, Any]:
    """Label values, tolerance, empty masks and metrics of one structure."""
    rows = [score for score in scores if score.structure == structure]
    both = {row.case_id for row in rows if row.reference_empty and row.predicted_empty}
    return {
        "label_values": list(profile.structures[structure]),
        "tolerance_mm": profile.tolerance_mm[structure]
        if "surface_dice" in profile.metrics
        else None,
        "n_both_empty": len(both),
        "n_only_reference_empty": len({row.case_id for row in rows if row.reference_empty} - both),
        "n_only_predicted_empty": len({row.case_id for row in rows if row.predicted_empty} - both),
        "metrics": {
            metric: describe([row.value for row in rows if row.metric == metric])
            for metric in profile.metrics
        },
    }


def _median(values: Sequence[float]) -> float:
    """Median that infinities may enter; NaN without values."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    # Both may be infinite, and then their mean is: no subtraction is involved.
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
