"""A whole study: every arm, regime and seed trained, predicted and scored, and then resumable."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from segfed.engine import make_plan, select_device
from segfed.files import sha256_json
from segfed.study.effort import label_rows
from segfed.study.events import OnEvent, StudyChecked, ignore_event
from segfed.study.models import ModelId, ensemble_models, trained_models, untrained_models
from segfed.study.parallel import default_workers, for_each
from segfed.study.preflight import SiteLabels, check_study
from segfed.study.records import (
    LABELS_FILE,
    SCORES_FILE,
    LabelRow,
    ModelRecord,
    ScoreRow,
    SiteRecord,
    StudyRecord,
    TestCaseRecord,
    write_rows,
    write_study,
)
from segfed.study.run import LaunchFederation, StudyRun
from segfed.study.scoring import score_model, study_profile
from segfed.study.settings import StudySettings
from segfed.study.training import load_network, train_model, untrained_model

PACKAGES = (
    "segfed",
    "torch",
    "monai",
    "flwr",
    "monailabel",
    "numpy",
    "scipy",
    "nibabel",
    "SimpleITK",
    "surface-distance",
)
"""Packages whose versions stand behind the figures."""


def run_study(
    settings: StudySettings,
    *,
    out: Path,
    launch_federation: LaunchFederation,
    on_event: OnEvent = ignore_event,
    workers: int | None = None,
) -> Path:
    """Train, predict and score every model of a study; returns the run folder.

    A study on the warm-up split makes the model that proposes: it is trained, and not compared.

    Everything is checked before anything is trained. A run that was killed goes on where it
    stopped: a model or prediction whose inputs (labels, images, plan, budget, versions, device)
    are the same as before is not computed again.

    Args:
        settings: The study, as ``load_study`` reads it.
        out: The run folder; made if it is not there.
        launch_federation: Runs one federated training, as the command line provides it.
        on_event: Told of the progress, by one thread at a time.
        workers: Models to train or score at once; see `default_workers`.

    Raises:
        ConfigError: If study, task and sites contradict each other.
        CaseError: If a site lacks cases or labels, or files are missing or damaged.
        TrainingError: If a training fails.
        FederationError: If a federated training fails.
    """
    data, device = check_study(settings), select_device(settings.device)
    run = StudyRun(
        settings=settings,
        data=data,
        plan=make_plan(data.task, settings.plan),
        profile=study_profile(settings.evaluation.profile, data.task),
        out=out,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        device=device,
        workers=workers or default_workers(device),
        launch_federation=launch_federation,
        on_event=on_event,
    )
    on_event(_checked(run))
    records = _train_all(run)
    compared = records if _compares(settings) else ()
    scored = for_each(run, lambda watched, record: _score(watched, record, records), compared)
    rows = [row for model_rows in scored for row in model_rows]
    write_rows(out / LABELS_FILE, label_rows(data), LabelRow)
    write_rows(out / SCORES_FILE, rows, ScoreRow)
    write_study(out, _study_record(run, records))
    return out


def _compares(settings: StudySettings) -> bool:
    """Whether the study's models are scored."""
    return settings.train_split == "train"


def _train_all(run: StudyRun) -> tuple[ModelRecord, ...]:
    """Every model of the study: untrained, trained, and ensembles made of trained ones."""
    names = [site.site.name for site in run.data.sites]
    untrained = {
        model.seed: untrained_model(run, model) for model in untrained_models(run.settings)
    }
    trained = for_each(
        run,
        lambda watched, model: train_model(watched, model, untrained=untrained[model.seed]),
        trained_models(run.settings, sites=names),
    )
    ensembles = [_ensemble(model, trained) for model in ensemble_models(run.settings)]
    return (*untrained.values(), *trained, *ensembles)


def _ensemble(model: ModelId, trained: Sequence[ModelRecord]) -> ModelRecord:
    """The record of an ensemble, from those of its members."""
    members = _members(model, trained)
    return ModelRecord(
        regime=model.regime,
        arm=model.arm,
        seed=model.seed,
        train_site=model.train_site,
        sha256=sha256_json([member.sha256 for member in members]),
        steps=sum(member.steps for member in members),
        seconds=sum(member.seconds for member in members),
        n_cases=sum(member.n_cases for member in members),
    )


def _members(model: ModelId, records: Sequence[ModelRecord]) -> list[ModelRecord]:
    """The local models of the same arm and seed."""
    return [
        record
        for record in records
        if (record.regime, record.arm, record.seed) == ("local", model.arm, model.seed)
    ]


def _score(run: StudyRun, record: ModelRecord, records: Sequence[ModelRecord]) -> list[ScoreRow]:
    """One model's scores on all test cases."""
    model = record.model_id
    parts = _members(model, records) if model.regime == "ensemble" else [record]
    networks = [load_network(run, part) for part in parts]
    return score_model(run, model, networks, weights_sha256=record.sha256)


def _budget_steps(run: StudyRun) -> dict[str, int]:
    """Optimizer steps of one model of each regime; for ``federated`` those of all sites."""
    budget, n_sites = run.settings.budget, len(run.data.sites)
    steps = {
        "local": budget.local(),
        "pooled": budget.pooled(n_sites=n_sites),
        "ensemble": n_sites * budget.local(),
        "federated": n_sites * budget.rounds * budget.steps_per_round,
    }
    return {regime: steps[regime] for regime in run.settings.regimes}


def _checked(run: StudyRun) -> StudyChecked:
    """What will run, for whoever shows the progress."""
    names = [site.site.name for site in run.data.sites]
    n_trainings = len(trained_models(run.settings, sites=names))
    n_others = len(untrained_models(run.settings)) + len(ensemble_models(run.settings))
    return StudyChecked(
        n_trainings=n_trainings,
        n_models=n_trainings + n_others if _compares(run.settings) else 0,
        n_test_cases=sum(len(site.test) for site in run.data.everywhere),
        budget_steps=_budget_steps(run),
        warnings=run.data.warnings,
    )


def _study_record(run: StudyRun, records: tuple[ModelRecord, ...]) -> StudyRecord:
    """``study.json``: what it takes to repeat the run and to check its figures."""
    return StudyRecord(
        settings=run.settings,
        task=run.data.task,
        plan=run.plan.model_dump(mode="json"),
        plan_sha256=run.plan.sha256,
        budget_steps=_budget_steps(run),
        versions={"python": platform.python_version(), **run.versions},
        device=str(run.device),
        sites=tuple(_site_record(run, site) for site in run.data.everywhere),
        models=records,
        test_cases=tuple(
            TestCaseRecord(
                site=site.site.name,
                case=labelled.case.case_id,
                image_sha256=labelled.case.image_sha256,
                reference_sha256=labelled.record.label_sha256,
            )
            for site in run.data.everywhere
            for labelled in site.test
        ),
        warnings=(*run.data.warnings, *still_improving(records)),
    )


def still_improving(records: Sequence[ModelRecord]) -> Iterator[str]:
    """A warning that names the models whose best validation was their last one."""
    if names := [str(r.model_id) for r in records if r.best_step == r.steps]:
        yield (
            f"The best validation was the last one of {'; '.join(names)}: they may have been still "
            "improving when their budget ended, and a gap of steps may pass for a gap of data."
        )


def _site_record(run: StudyRun, site: SiteLabels) -> SiteRecord:
    """A site as it took part."""
    return SiteRecord(
        name=site.site.name,
        folder=site.site.folder,
        data=site.site.settings.data,
        external=site in run.data.external,
        n_train={arm: len(labelled) for arm, labelled in site.train.items()},
        n_validation=len(site.validation),
        n_test=len(site.test),
    )
