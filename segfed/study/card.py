"""The model card of a published model, from run records alone."""

from __future__ import annotations

from segfed.dp_rules import statement
from segfed.engine import Lineage
from segfed.sites import Task
from segfed.study.records import ModelRecord, StudyRecord

LIMITS = "A research model: no medical device, and not for diagnosis."
"""What holds for every model that segfed trains."""

_LINEAGE = """`lineage.json` lists the hash of every
image that it was trained on or chosen by; it must not propose labels for those."""


def model_card(study: StudyRecord, model: ModelRecord) -> str:
    """What a user of the model must know, in Markdown: training, participants, limits."""
    names = [site for site in study.sites if not site.external]
    if model.regime == "local":
        names = [site for site in names if site.name == model.train_site]
    kinds = ", ".join(sorted({site.data for site in names}))
    rows = "\n".join(
        f"| {site.name} | {site.data} | {site.n_train[model.arm]} | {site.n_validation} |"
        for site in names
    )
    structures = ", ".join(study.task.structures)
    return f"""# {study.task.title}

A 3D segmentation model from study `{study.settings.name}`, regime `{model.regime}`, trained on
`{model.arm}` labels with seed {model.seed}: {model.steps} optimizer steps on {model.n_cases}
cases.

| | |
|---|---|
| input | {study.task.modality}, channels {", ".join(study.task.channels)} |
| structures | {structures} |
| training data | {kinds} |
| weights (SHA-256) | `{model.sha256}` |
| plan (SHA-256) | `{study.plan_sha256}` |
| made with | {", ".join(f"{name} {version}" for name, version in study.versions.items())} |

| site | data | training cases | validation cases |
|---|---|---|---|
{rows}

## Limits

{LIMITS} Figures about it are in the study's report. {_LINEAGE}

{_privacy(study, model)}
"""


def _privacy(study: StudyRecord, model: ModelRecord) -> str:
    """What the weights may tell of those whose data trained them."""
    rules = study.settings.privacy.differential_privacy
    if rules is None or model.epsilon is None:
        return (
            "It was trained without noise: whoever has the weights may be able to tell something "
            "about single training cases."
        )
    return "\n".join(statement(rules, epsilon=model.epsilon))


def fine_tune_card(
    task: Task,
    lineage: Lineage,
    *,
    site: str,
    n_train: int,
    n_validation: int,
    steps: int,
    start_dice: float | None,
    dice: float | None,
    clicks: str | None = None,
) -> str:
    """The card of a model that one site trained on from another one, in Markdown."""
    start = f"model `{lineage.parent[:12]}`" if lineage.parent else "random weights"
    measured = "validation Dice"
    purpose = ""
    if clicks:
        measured = f"validation Dice of {clicks} after two simulated clicks"
        purpose = f"It corrects the {clicks} where a reader clicks on or beside it.\n"
    return f"""# {task.title}

A 3D segmentation model that site `{site}` trained by itself, from {start}: {steps} optimizer steps
on {n_train} cases with approved labels ({lineage.arm}).
{purpose}
| | |
|---|---|
| input | {task.modality}, channels {", ".join(task.channels)} |
| structures | {", ".join(task.structures)} |
| training data | {", ".join(lineage.data)}, of {", ".join(lineage.sites)} |
| {measured} | {_figure(start_dice)} before, {_figure(dice)} after, on {n_validation} cases |

## Limits

{LIMITS} It was chosen by the figures above, so they flatter it. {_LINEAGE}
"""


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
