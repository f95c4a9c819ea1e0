"""Manual against assisted labels: the difference, its interval and the declared verdict."""

from __future__ import annotations

from typing import Any

from segfed.evaluation import (
    MINIMUM_SEEDS,
    Estimate,
    SiteValues,
    difference_for_these_sites,
    judge_non_inferiority,
    new_models,
    new_sites,
    seed_spread,
    wilcoxon_holm,
)
from segfed.evaluation.paired import cases_for_verdict
from segfed.report.values import MEAN_OF_STRUCTURES, Scores, as_json, json_number
from segfed.study.records import LabelRow
from segfed.study.settings import EvaluationSettings


def compare_arms(
    scores: Scores, labels: tuple[LabelRow, ...], settings: EvaluationSettings
) -> dict[str, Any] | None:
    """Assisted minus manual Dice on the same hand-drawn test labels, for each regime.

    With ``MINIMUM_SEEDS`` seeds the verdict speaks of the label strategy and is given on the
    intervals for newly trained models; with fewer it speaks of these models, on the intervals for
    new cases of these sites.

    Returns:
        The comparison, or None where no regime has models of both arms.
    """
    regimes = [
        regime
        for regime in scores.regimes()
        if scores.shared_seeds((regime, "manual"), (regime, "assisted"))
    ]
    if not regimes:
        return None
    structures = settings.structures or scores.structures()
    return {
        "metric": "dice",
        "margin": settings.margin,
        "cases_for_verdict": cases_for_verdict(settings.margin),
        "declared_structures": list(structures),
        "design": _design(labels),
        "primary_regime": "federated" if "federated" in regimes else regimes[0],
        "regimes": {
            regime: _compare(scores, regime, structures=structures, settings=settings)
            for regime in regimes
        },
    }


def _compare(
    scores: Scores, regime: str, *, structures: tuple[str, ...], settings: EvaluationSettings
) -> dict[str, Any]:
    """The differences of one regime."""
    compared = {
        name: scores.comparable((regime, "manual"), (regime, "assisted"), structure=name)
        for name in (*scores.structures(), MEAN_OF_STRUCTURES)
    }
    differences = {name: found.differences for name, found in compared.items()}
    by_seed = {name: _by_seed(scores, regime, name) for name in differences}
    n_seeds = len(by_seed[MEAN_OF_STRUCTURES])
    estimates = {name: _difference(values, settings) for name, values in differences.items()}
    trained_anew = {name: new_models(values) for name, values in by_seed.items()}
    bears_training = n_seeds >= MINIMUM_SEEDS
    judged = trained_anew if bears_training else estimates
    verdict = judge_non_inferiority(
        {name: judged[name] for name in structures}, margin=settings.margin
    )
    p_values = wilcoxon_holm({name: differences[name] for name in structures})
    return {
        "estimand": "new_models" if bears_training else "these_sites",
        "n_seeds": n_seeds,
        "is_non_inferior": verdict.is_non_inferior,
        "sentence": verdict.sentence,
        "structures": {
            name: as_json(estimates[name])
            | {
                "n_one_sided": compared[name].n_one_sided,
                "is_declared": name in structures,
                "keeps_margin": verdict.passes.get(name),
                "objection": verdict.reasons.get(name),
                "p_wilcoxon_holm": p_values.get(name),
                "sites": {
                    site: as_json(_difference({site: cases}, settings))
                    for site, cases in differences[name].items()
                },
            }
            for name in estimates
        },
        "new_sites": {name: as_json(new_sites(values)) for name, values in differences.items()},
        "new_models": {name: as_json(found) for name, found in trained_anew.items()},
        "seed_spread": {name: json_number(seed_spread(values)) for name, values in by_seed.items()},
    }


def _difference(values: SiteValues, settings: EvaluationSettings) -> Estimate:
    """A mean difference between two models on the same cases, for new cases of these sites."""
    return difference_for_these_sites(values, seed=0, n_bootstrap=settings.n_bootstrap)


def _by_seed(scores: Scores, regime: str, structure: str) -> dict[int, dict[str, dict[str, float]]]:
    """Differences of each seed that both arms have."""
    models = (regime, "manual"), (regime, "assisted")
    return {
        seed: scores.comparable(*models, structure=structure, seed=seed).differences
        for seed in scores.shared_seeds(*models)
    }


def _design(labels: tuple[LabelRow, ...]) -> str:
    """``crossover`` where both arms label the same cases, ``parallel`` where they share none."""
    cases = {
        arm: {(row.site, row.case) for row in labels if row.arm == arm}
        for arm in ("manual", "assisted")
    }
    if cases["manual"] == cases["assisted"]:
        return "crossover"
    return "mixed" if cases["manual"] & cases["assisted"] else "parallel"
