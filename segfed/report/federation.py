"""What the federation gained, how it converged, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segfed.evaluation import (
    convergence_score,
    forgetting,
    gain,
    gap_share,
    generalizability,
    local_performance,
    these_sites,
    train_test_matrix,
)
from segfed.evaluation.federated import Matrix
from segfed.protocol import RoundRecord
from segfed.report.values import Scores, json_number
from segfed.run_files import read_rounds, read_state
from segfed.study.records import StudyRecord


def build_matrix(scores: Scores, arm: str, structure: str) -> dict[str, Any]:
    """Mean Dice of each model (row) on each site's test cases (column), external sites last."""
    return {
        model: {site: asdict(cell) for site, cell in tests.items()}
        for model, tests in _matrix(scores, arm, structure).items()
    }


def federated_gain(
    scores: Scores, arm: str, structure: str, *, n_bootstrap: int
) -> dict[str, Any] | None:
    """The federated model against the local ones, and the share of the gap to pooling it closes.

    Returns:
        None where no seed of this arm has all local models and the federated one.
    """
    if not scores.shared_seeds(("local", arm), ("federated", arm)):
        return None
    matrix = _matrix(scores, arm, structure)
    members = [site for site in scores.train_sites("local", arm) if site in matrix]
    own, elsewhere = local_performance(matrix), generalizability(matrix, test_sites=members)
    federated = scores.values("federated", arm, structure, "dice")
    mean = these_sites(federated, seed=0, n_bootstrap=n_bootstrap).mean
    global_score = math.nan if mean is None else mean
    share = None
    if scores.shared_seeds(("local", arm), ("pooled", arm), ("federated", arm)):
        same = scores.comparable(
            ("local", arm), ("pooled", arm), ("federated", arm), structure=structure
        )
        share = asdict(gap_share(*same.models, seed=0, n_bootstrap=n_bootstrap))
    return {
        "federated": json_number(global_score),
        "local_performance": json_number(own),
        "generalizability": json_number(elsewhere),
        "gain_over_local": _numbers(asdict(gain(global_score, own))),
        "gain_over_generalizability": _numbers(asdict(gain(global_score, elsewhere))),
        "gap_share": share,
    }


def federation_costs(run_folder: Path, study: StudyRecord) -> list[dict[str, Any]]:
    """Rounds, bytes and seconds of each federated training, from its own records."""
    return [
        _costs(run_folder / model.model_id.folder) | {"arm": model.arm, "seed": model.seed}
        for model in study.models
        if model.regime == "federated"
    ]


def _costs(folder: Path) -> dict[str, Any]:
    """One training's ``metrics.jsonl`` and ``state.json`` in sums."""
    state = read_state(folder)
    rounds = read_rounds(folder, state)
    sites = sorted({site for record in rounds for site in record.sites})
    return {
        "rounds": len(rounds),
        "best_round": state.best_round,
        "ended": state.ended,
        "seconds": sum(record.seconds for record in rounds),
        "convergence_score": _convergence(rounds),
        "sites": {
            site: {
                name: _total(rounds, site, name) for name in ("seconds", "bytes_down", "bytes_up")
            }
            for site in sites
        },
        "dropped": [
            {"round": record.round, "site": site, "reason": reason}
            for record in rounds
            for site, reason in record.dropped.items()
        ],
        "suspects": _suspects(rounds),
        "forgetting": [asdict(found) for found in forgetting(rounds)],
        "convergence": [
            {
                "round": record.round,
                "loss": record.loss,
                "validation_dice": record.validation_dice,
            }
            for record in rounds
        ],
    }


def _suspects(rounds: Sequence[RoundRecord]) -> list[dict[str, Any]]:
    """Sites whose updates looked wrong: in how many rounds, and why in the first of them."""
    flagged: dict[str, list[str]] = {}
    for record in rounds:
        for site, reason in record.suspects.items():
            flagged.setdefault(site, []).append(reason)
    return [
        {"site": site, "rounds": len(reasons), "reason": reasons[0]}
        for site, reasons in sorted(flagged.items())
    ]


def _convergence(rounds: Sequence[RoundRecord]) -> float | None:
    """Area under best-so-far validation Dice; None where a round has none or no time."""
    dice = [record.validation_dice for record in rounds]
    seconds = [
        {site: found["seconds"] for site, found in record.sites.items() if found.get("seconds")}
        for record in rounds
    ]
    known = [value for value in dice if value is not None]
    if len(known) < len(rounds) or not all(seconds):
        return None
    times = [{site: float(value or 0) for site, value in item.items()} for item in seconds]
    return json_number(convergence_score(known, times))


def _total(rounds: Sequence[RoundRecord], site: str, name: str) -> float | None:
    """Sum of one number over the rounds in which a site reported it; None where it never did."""
    values = [record.sites.get(site, {}).get(name) for record in rounds]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _matrix(scores: Scores, arm: str, structure: str) -> Matrix:
    """Local models by their site's name, then the models that learned from all sites."""
    everywhere = [*scores.test_sites, *sorted(scores.external)]
    rows = {
        site: scores.values("local", arm, structure, "dice", train_site=site, sites=everywhere)
        for site in scores.train_sites("local", arm)
    }
    for regime in ("ensemble", "federated", "pooled"):
        if arm in scores.regimes().get(regime, ()):
            rows[regime] = scores.values(regime, arm, structure, "dice", sites=everywhere)
    return train_test_matrix(rows)


def _numbers(values: dict[str, float]) -> dict[str, float | None]:
    """Numbers that JSON can hold."""
    return {name: json_number(value) for name, value in values.items()}
