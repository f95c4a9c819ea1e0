"""A study: label arms, training regimes and seeds, run so that it can be resumed and repeated."""

from segfed.study.events import (
    CaseScored,
    OnEvent,
    StudyChecked,
    StudyEvent,
    TrainingAdvanced,
    TrainingFinished,
    TrainingStarted,
    ignore_event,
)
from segfed.study.leakage import ATTACKS_FILE, AttackRecord, attack_study, read_attacks
from segfed.study.models import ModelId
from segfed.study.preflight import check_study
from segfed.study.registry import (
    PublishedModel,
    click_model_name,
    current_model,
    export_model,
    model_fault,
    publish,
    publish_run,
    published_models,
    shared_model,
)
from segfed.study.run import LaunchFederation
from segfed.study.runner import plan_study, run_study
from segfed.study.settings import Budget, EvaluationSettings, StudySettings, load_study

__all__ = [
    "ATTACKS_FILE",
    "AttackRecord",
    "Budget",
    "CaseScored",
    "EvaluationSettings",
    "LaunchFederation",
    "ModelId",
    "OnEvent",
    "PublishedModel",
    "StudyChecked",
    "StudyEvent",
    "StudySettings",
    "TrainingAdvanced",
    "TrainingFinished",
    "TrainingStarted",
    "attack_study",
    "check_study",
    "click_model_name",
    "current_model",
    "export_model",
    "ignore_event",
    "load_study",
    "model_fault",
    "plan_study",
    "publish",
    "publish_run",
    "published_models",
    "read_attacks",
    "run_study",
    "shared_model",
]
