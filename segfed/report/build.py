"""``report.json``: every number of a run, computed from its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from segfed.errors import ConfigError
from segfed.evaluation import DEFINITIONS, difference_for_these_sites, site_means, worst_site
from segfed.report.agreement import summarize_agreement
from segfed.report.anchoring import summarize_anchoring
from segfed.report.card import build_card
from segfed.report.cases import list_cases
from segfed.report.comparison import compare_arms
from segfed.report.contribution import summarize_contributions
from segfed.report.effort import summarize_effort
from segfed.report.federation import build_matrix, federated_gain, federation_costs
from segfed.report.finding import data_statement, describe_finding, report_warnings
from segfed.report.leakage import summarize_attacks
from segfed.report.separation import image_separation
from segfed.report.values import (
    DISTANCE_RANGE_MM,
    MEAN_OF_STRUCTURES,
    SCORE_RANGE,
    Scores,
    as_json,
    estimate,
)
from segfed.study.records import (
    AGREEMENT_FILE,
    ANCHORING_FILE,
    LABELS_FILE,
    METRICS,
    SCORES_FILE,
    ModelRecord,
    StudyModel,
    StudyRecord,
    read_agreement,
    read_anchoring,
    read_labels,
    read_scores,
    read_study,
)

REPORT_FILE = "report.json"


def build_report(run_folder: Path) -> dict[str, Any]:
    """Every number that the report shows, as plain data for ``report.json``.

    ``dice[regime][arm][structure]`` and its like are the mean of the participating sites' means;
    a ``local`` score is the mean over all sites' models. ``sites`` and ``external`` hold the same
    for each site. What a run does not have is ``None`` or left out, never zero.

    Args:
        run_folder: Where ``segfed study run`` put its records.

    Raises:
        ConfigError: If the folder holds no finished study, or one that was not scored.
    """
    study = read_study(run_folder)
    rows = read_scores(run_folder / SCORES_FILE)
    if not rows:
        raise ConfigError(
            f"{run_folder / SCORES_FILE} holds no score, expected those of a study that compares "
            f"models: {study.settings.name} was trained to propose and not scored; publish it with "
            "`segfed model publish`."
        )
    scores = Scores(rows)
    labels = read_labels(run_folder / LABELS_FILE)
    n_bootstrap = study.settings.evaluation.n_bootstrap
    arms = [
        arm for arm in study.settings.arms if any(arm in of for of in scores.regimes().values())
    ]
    structures = (*scores.structures(), MEAN_OF_STRUCTURES)
    report: dict[str, Any] = {
        "schema_version": 1,
        "study": study.settings.name,
        "task": _task(study),
        "data": data_statement(study.sites),
        **_metrics(scores, None, n_bootstrap=n_bootstrap),
        "overall": _overall(scores, scores.test_sites, n_bootstrap=n_bootstrap),
        "sites": _by_site(scores, scores.test_sites, n_bootstrap=n_bootstrap),
        "external": _by_site(scores, sorted(scores.external), n_bootstrap=n_bootstrap),
        "external_overall": _overall(scores, sorted(scores.external), n_bootstrap=n_bootstrap),
        "cases": list_cases(scores),
        "worst_site": _worst_sites(scores),
        "matrix": {
            arm: {name: build_matrix(scores, arm, name) for name in structures} for arm in arms
        },
        "gain": {
            arm: {
                name: federated_gain(scores, arm, name, n_bootstrap=n_bootstrap)
                for name in structures
            }
            for arm in arms
        },
        "federated_minus": {
            arm: _against_federated(scores, arm, structures, n_bootstrap=n_bootstrap)
            for arm in arms
        },
        "comparison": compare_arms(scores, labels, study.settings.evaluation),
        "effort": summarize_effort(labels),
        "agreement": summarize_agreement(
            read_agreement(run_folder / AGREEMENT_FILE), n_bootstrap=n_bootstrap
        ),
        "anchoring": summarize_anchoring(
            read_anchoring(run_folder / ANCHORING_FILE),
            tolerance_mm=study.settings.evaluation.error_tolerance_mm,
        ),
        "federation": federation_costs(run_folder, study),
        "contributions": summarize_contributions(run_folder, study),
        "attacks": summarize_attacks(run_folder),
        "separation": image_separation(run_folder, study),
        "reference": _reference(study),
        "participants": [site.model_dump(mode="json") for site in study.sites],
        "budget_steps": study.budget_steps,
        "seeds": list(study.settings.seeds),
        "runs": _runs(study),
        "not_run": [model.model_dump(mode="json") for model in study.not_run],
        "settings": study.settings.model_dump(
            mode="json", exclude={"task", "sites", "external_sites"}
        ),
        "methods": _methods(study),
    }
    report["warnings"] = [*study.warnings, *report_warnings(report, study)]
    report = {"finding": describe_finding(report), **report}
    return report | {"model_card": build_card(report)}


def _metrics(
    scores: Scores, sites: Iterable[str] | None, *, n_bootstrap: int
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """``{metric: {regime: {arm: {structure: estimate}}}}`` over some test sites."""
    chosen = None if sites is None else tuple(sites)
    return {
        metric: {
            regime: {
                arm: {
                    structure: estimate(
                        scores.values(regime, arm, structure, metric, sites=chosen),
                        n_bootstrap=n_bootstrap,
                        within=DISTANCE_RANGE_MM if metric == "hd95_mm" else SCORE_RANGE,
                        with_median=metric == "hd95_mm",
                    )
                    for structure in scores.structures()
                }
                for arm in arms
            }
            for regime, arms in scores.regimes().items()
        }
        for metric in METRICS
    }


def _by_site(scores: Scores, sites: Sequence[str], *, n_bootstrap: int) -> dict[str, Any]:
    """The metrics of each site alone, and the Dice of its own local model where it has one."""
    return {
        site: {
            **_metrics(scores, [site], n_bootstrap=n_bootstrap),
            "overall": _overall(scores, [site], n_bootstrap=n_bootstrap),
            "own_local_model": {
                arm: estimate(
                    scores.values(
                        "local", arm, MEAN_OF_STRUCTURES, "dice", train_site=site, sites=[site]
                    ),
                    n_bootstrap=n_bootstrap,
                    within=SCORE_RANGE,
                )
                for arm in scores.regimes().get("local", ())
                if site in scores.train_sites("local", arm)
            },
        }
        for site in sites
    }


def _overall(scores: Scores, sites: Iterable[str], *, n_bootstrap: int) -> dict[str, Any]:
    """Dice of each regime and arm, as the mean over a case's structures."""
    chosen = tuple(sites)
    return {
        regime: {
            arm: estimate(
                scores.values(regime, arm, MEAN_OF_STRUCTURES, "dice", sites=chosen),
                n_bootstrap=n_bootstrap,
                within=SCORE_RANGE,
            )
            for arm in arms
        }
        for regime, arms in scores.regimes().items()
    }


def _worst_sites(scores: Scores) -> dict[str, dict[str, str | None]]:
    """The participating site where each regime and arm scores lowest, among those with enough
    cases to be ranked.
    """
    return {
        regime: {
            arm: worst_site(site_means(scores.values(regime, arm, MEAN_OF_STRUCTURES, "dice")))
            for arm in arms
        }
        for regime, arms in scores.regimes().items()
    }


def _against_federated(
    scores: Scores, arm: str, structures: Sequence[str], *, n_bootstrap: int
) -> dict[str, Any]:
    """Federated minus each other regime of an arm, in Dice of the same cases."""
    compared = {
        other: {
            name: scores.comparable((other, arm), ("federated", arm), structure=name)
            for name in structures
        }
        for other in ("local", "ensemble", "pooled")
        if scores.shared_seeds((other, arm), ("federated", arm))
    }
    return {
        other: {
            name: as_json(
                difference_for_these_sites(found.differences, seed=0, n_bootstrap=n_bootstrap)
            )
            | {"n_one_sided": found.n_one_sided}
            for name, found in by_structure.items()
        }
        for other, by_structure in compared.items()
    }


def _runs(study: StudyRecord) -> dict[str, Any]:
    """How many models of which seeds stand behind each regime and arm, and how many are missing."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    models: tuple[ModelRecord | StudyModel, ...] = (*study.models, *study.not_run)
    for model in models:
        cell = found.setdefault(model.regime, {}).setdefault(
            model.arm, {"n_models": 0, "n_not_run": 0, "seeds": []}
        )
        is_missing = isinstance(model, StudyModel)
        cell["n_not_run" if is_missing else "n_models"] += 1
        if not is_missing and model.seed not in cell["seeds"]:
            cell["seeds"].append(model.seed)
    return found


def _task(study: StudyRecord) -> dict[str, Any]:
    """What was segmented."""
    task = study.task
    return {
        "name": task.name,
        "title": task.title,
        "modality": task.modality,
        "channels": list(task.channels),
        "structures": {name: list(values) for name, values in task.structures.items()},
        "tolerance_mm": dict(task.tolerance_mm),
    }


def _reference(study: StudyRecord) -> dict[str, int | None]:
    """Test cases, and how many people drew their labels; None where that was not recorded."""
    readers = {(case.site, case.reader) for case in study.test_cases if case.reader is not None}
    is_known = all(case.reader is not None for case in study.test_cases)
    return {
        "n_cases": len(study.test_cases),
        "n_readers": len(readers) if is_known and readers else None,
    }


def _methods(study: StudyRecord) -> dict[str, Any]:
    """How the figures came about: definitions, versions and hashes."""
    return {
        "profile": study.settings.evaluation.profile,
        "definitions": {metric: DEFINITIONS[metric] for metric in METRICS},
        "n_bootstrap": study.settings.evaluation.n_bootstrap,
        "plan": study.plan,
        "plan_sha256": study.plan_sha256,
        "device": study.device,
        "versions": study.versions,
        "models": [
            model.model_dump(mode="json") for model in study.models if model.regime != "ensemble"
        ],
        "n_test_cases": len(study.test_cases),
    }
