"""A whole study: every arm, regime and seed trained, predicted and scored, and then resumable."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
from pathlib import Path

from segfed.engine import Plan, make_plan
from segfed.errors import ConfigError
from segfed.evaluation import Profile
from segfed.files import sha256_json
from segfed.study.effort import label_rows
from segfed.study.events import OnEvent, StudyChecked, ignore_event
from segfed.study.models import ensemble_models, trained_models
from segfed.study.preflight import SiteLabels, StudyData, check_study
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
from segfed.study.scoring import score_model, study_profile
from segfed.study.settings import StudySettings
from segfed.study.training import LaunchFederation, Trainer, load_network

logger = logging.getLogger(__name__)

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
) -> Path:
    """Train, predict and score every model of a study; returns the run folder.

    Everything is checked before anything is trained. A run that was killed goes on where it
    stopped: a model or prediction whose inputs (labels, images, plan, budget, versions) are the
    same as before is not computed again.

    Args:
        settings: The study, as ``load_study`` reads it.
        out: The run folder; made if it is not there.
        launch_federation: Runs one federated training, as the command line provides it.
        on_event: Told of the progress.

    Raises:
        ConfigError: If study, task and sites contradict each other.
        CaseError: If a site lacks cases or labels, or files are missing or damaged.
        TrainingError: If a training fails.
        FederationError: If a federated training fails.
    """
    data = check_study(settings)
    plan = make_plan(data.task, settings.plan)
    profile = study_profile(settings.evaluation.profile, data.task)
    budget_steps = _budget_steps(settings, n_sites=len(data.sites))
    on_event(_checked(settings, data, budget_steps))
    trainer = Trainer(
        settings=settings,
        plan=plan,
        data=data,
        out=out,
        version=importlib.metadata.version("segfed"),
        launch_federation=launch_federation,
        on_event=on_event,
    )
    models = trainer.train_all()
    rows = _score_all(
        models, settings=settings, plan=plan, data=data, profile=profile, out=out, on_event=on_event
    )
    write_rows(out / LABELS_FILE, label_rows(data), LabelRow)
    write_rows(out / SCORES_FILE, rows, ScoreRow)
    write_study(out, _record(settings, data, plan, budget_steps, models))
    return out
