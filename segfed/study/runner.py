"""A whole study: every arm, regime and seed trained, predicted and scored, and then resumable."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from segfed.engine import make_plan, select_device
from segfed.files import write_rows
from segfed.study.agreement import agreement_rows
from segfed.study.anchoring import anchoring_rows
from segfed.study.effort import label_rows
from segfed.study.events import OnEvent, Schedule, StudyChecked, ignore_event
from segfed.study.input_range import write_input_ranges
from segfed.study.models import UNTRAINED, ModelId, members_of
from segfed.study.parallel import default_workers, for_each
from segfed.study.preflight import check_study
from segfed.study.records import (
    AGREEMENT_FILE,
    ANCHORING_FILE,
    LABELS_FILE,
    SCORES_FILE,
    AgreementRow,
    AnchoringRow,
    LabelRow,
    ModelRecord,
    ScoreRow,
    StudyModel,
    StudyRecord,
    TestCaseRecord,
    ensemble_sha256,
    write_study,
)
from segfed.study.run import LaunchFederation, StudyRun, budget_steps
from segfed.study.schedule import make_schedule
from segfed.study.scoring import score_model, study_profile
from segfed.study.settings import StudySettings
from segfed.study.site_record import site_record
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
    only: Sequence[str] = (),
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
        only: Work on these models only, see `wanted_models`; the others count where an earlier
            run finished them.

    Raises:
        ConfigError: If study, task and sites contradict each other, or a filter names nothing.
        CaseError: If a site lacks cases or labels, or files are missing or damaged.
        TrainingError: If a training fails.
        FederationError: If a federated training fails.
    """
    run = open_study(
        settings, out=out, launch_federation=launch_federation, on_event=on_event, workers=workers
    )
    schedule = make_schedule(run, only=only)
    on_event(_checked(run, schedule))
    records = _train_all(run, schedule.included)
    write_input_ranges(run, records)
    compared = records if settings.compares else ()
    scored = for_each(run, lambda watched, record: _score(watched, record, records), compared)
    rows = [row for model_rows in scored for row in model_rows]
    write_rows(out / LABELS_FILE, label_rows(run.data), LabelRow)
    write_rows(out / ANCHORING_FILE, anchoring_rows(run), AnchoringRow)
    write_rows(out / AGREEMENT_FILE, agreement_rows(run.data), AgreementRow)
    write_rows(out / SCORES_FILE, rows, ScoreRow)
    write_study(out, _study_record(run, records, not_run=schedule.left_out))
    return out


def plan_study(
    settings: StudySettings,
    *,
    out: Path,
    launch_federation: LaunchFederation,
    workers: int | None = None,
    only: Sequence[str] = (),
) -> StudyChecked:
    """What `run_study` would do, after the same checks; writes to nothing but the sites' caches.

    Args:
        settings: The study, as ``load_study`` reads it.
        out: The run folder, which need not be there.
        launch_federation: As for `run_study`; not called.
        workers: Models to train or score at once.
        only: The models in question.

    Raises:
        ConfigError: If study, task and sites contradict each other, or a filter names nothing.
        CaseError: If a site lacks cases or labels, or files are missing or damaged.
    """
    run = open_study(
        settings,
        out=out,
        launch_federation=launch_federation,
        on_event=ignore_event,
        workers=workers,
    )
    return _checked(run, make_schedule(run, only=only))


def open_study(
    settings: StudySettings,
    *,
    out: Path,
    launch_federation: LaunchFederation,
    on_event: OnEvent = ignore_event,
    workers: int | None = None,
) -> StudyRun:
    """A study, checked and ready to run.

    Raises:
        ConfigError: If study, task and sites contradict each other.
        CaseError: If a site lacks cases or labels, or files are missing or damaged.
    """
    data, device = check_study(settings), select_device(settings.device)
    return StudyRun(
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


def _train_all(run: StudyRun, models: Sequence[ModelId]) -> tuple[ModelRecord, ...]:
    """These models of the study: untrained, trained, and ensembles made of trained ones."""
    untrained = {
        model.seed: untrained_model(run, model) for model in models if model.regime == UNTRAINED
    }
    trained = for_each(
        run,
        lambda watched, model: train_model(watched, model, untrained=untrained[model.seed]),
        [model for model in models if model.regime not in (UNTRAINED, "ensemble")],
    )
    ensembles = [_ensemble(model, trained) for model in models if model.regime == "ensemble"]
    return (*untrained.values(), *trained, *ensembles)


def _ensemble(model: ModelId, trained: Sequence[ModelRecord]) -> ModelRecord:
    """The record of an ensemble, from those of its members."""
    members = _members(model, trained)
    return ModelRecord(
        **asdict(model),
        sha256=ensemble_sha256([member.sha256 for member in members]),
        steps=sum(member.steps for member in members),
        seconds=sum(member.seconds for member in members),
        n_cases=sum(member.n_cases for member in members),
    )


def _members(model: ModelId, records: Sequence[ModelRecord]) -> list[ModelRecord]:
    """The records of the models that an ensemble averages."""
    by_id = {record.model_id: record for record in records}
    return [by_id[member] for member in members_of(model, by_id)]


def _score(run: StudyRun, record: ModelRecord, records: Sequence[ModelRecord]) -> list[ScoreRow]:
    """One model's scores on all test cases."""
    model = record.model_id
    parts = _members(model, records) if model.regime == "ensemble" else [record]
    networks = [load_network(run.out, run.plan, part) for part in parts]
    return score_model(run, model, networks, weights_sha256=record.sha256)


def _checked(run: StudyRun, schedule: Schedule) -> StudyChecked:
    """What will run, for whoever shows the progress."""
    return StudyChecked(
        schedule=schedule,
        n_models=len(schedule.included) if run.settings.compares else 0,
        n_test_cases=sum(len(site.test) for site in run.data.everywhere),
        budget_steps=budget_steps(run),
        warnings=run.data.warnings,
    )


def _study_record(
    run: StudyRun, records: tuple[ModelRecord, ...], *, not_run: Sequence[ModelId]
) -> StudyRecord:
    """``study.json``: what it takes to repeat the run and to check its figures."""
    return StudyRecord(
        settings=run.settings,
        task=run.data.task,
        plan=run.plan.model_dump(mode="json"),
        plan_sha256=run.plan.sha256,
        budget_steps=budget_steps(run),
        versions={"python": platform.python_version(), **run.versions},
        device=str(run.device),
        sites=tuple(
            site_record(site, external=site in run.data.external) for site in run.data.everywhere
        ),
        models=records,
        test_cases=tuple(
            TestCaseRecord(
                site=site.site.name,
                case=labelled.case.case_id,
                image_sha256=labelled.case.image_sha256,
                reference_sha256=labelled.record.label_sha256,
                reader=labelled.record.reader,
            )
            for site in run.data.everywhere
            for labelled in site.test
        ),
        warnings=(
            *run.data.warnings,
            *still_improving(records),
            *_scored_with_own_layers(run.settings),
        ),
        not_run=tuple(
            StudyModel(**asdict(model)) for model in not_run if model.regime != UNTRAINED
        ),
    )


def still_improving(records: Sequence[ModelRecord]) -> Iterator[str]:
    """A warning that names the models whose best validation was their last one."""
    if names := [str(r.model_id) for r in records if r.best_step == r.steps]:
        yield (
            f"The best validation was the last one of {'; '.join(names)}: they may have been still "
            "improving when their budget ended, and a gap of steps may pass for a gap of data."
        )


def _scored_with_own_layers(settings: StudySettings) -> Iterator[str]:
    """A warning where the federated model is not the same at every site."""
    kinds = " and ".join(settings.federation.personal)
    if kinds and "federated" in settings.regimes:
        yield (
            f"The federated model was scored at each site with the site's own {kinds} layers, and "
            "at external sites with the mean of all sites' layers, which is also what a published "
            "model holds."
        )
