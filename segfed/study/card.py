"""The model card of a published model: from run records, and what a person stated by hand."""

from __future__ import annotations

from collections.abc import Sequence

from segfed.dp_rules import statement
from segfed.engine import Lineage
from segfed.evaluation import SiteValues, these_sites
from segfed.sites import Task
from segfed.study.models import ModelId
from segfed.study.records import ModelRecord, ScoreRow, StudyRecord

LIMITS = "A research model: no medical device, and not for diagnosis."
"""What holds for every model that segfed trains."""

_LINEAGE = """`lineage.json` lists the hash of every
image that it was trained on or chosen by; it must not propose labels for those."""


def model_card(study: StudyRecord, model: ModelRecord, scores: Sequence[ScoreRow]) -> str:
    """What a user of the model must know, in Markdown: training, participants, results, limits.

    Args:
        study: The study's record.
        model: The model's.
        scores: Of the whole study; none for one that was trained to propose.
    """
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

## Dice on hand-drawn test labels

{_results(model, scores)}

## Intended use

{_by_hand(study.settings.card.intended_use)}

## Limits

{LIMITS} {_by_hand(study.settings.card.limits)} More figures are in the study's report. {_LINEAGE}

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


def _results(model: ModelRecord, scores: Sequence[ScoreRow]) -> str:
    """A row for each test site and one over the participating ones; undefined ones are counted."""
    rows = [
        row
        for row in scores
        if row.metric == "dice"
        and ModelId(row.regime, row.arm, row.seed, row.train_site) == model.model_id
    ]
    if not rows:
        return "Not measured: the model was trained to propose, and not compared."
    structures = list(dict.fromkeys(row.structure for row in rows))
    external = {row.test_site for row in rows if row.external}
    values: dict[str, dict[str, dict[str, float]]] = {name: {} for name in structures}
    for row in rows:
        values[row.structure].setdefault(row.test_site, {})[row.case] = row.value
    sites = list(dict.fromkeys(row.test_site for row in rows))
    lines = [f"| site | {' | '.join(structures)} |", f"|---|{'---|' * len(structures)}"]
    for site in sites:
        cells = [_mean({site: values[name][site]}) for name in structures]
        name = f"{site} (external)" if site in external else site
        lines.append(f"| {name} | {' | '.join(cells)} |")
    taking_part = [site for site in sites if site not in external]
    cells = [_mean({site: values[name][site] for site in taking_part}) for name in structures]
    return "\n".join([*lines, f"| mean of the sites that trained | {' | '.join(cells)} |"])


def _mean(values: SiteValues) -> str:
    """``0.812 (0.790 to 0.834), n = 12``, with the interval for new cases of these sites."""
    found = these_sites(values, seed=0)
    if found.mean is None:
        return f"undefined, n = {found.n_nan}"
    interval = "" if found.ci_low is None else f" ({found.ci_low:.3f} to {found.ci_high:.3f})"
    undefined = f", {found.n_nan} undefined" if found.n_nan else ""
    return f"{found.mean:.3f}{interval}, n = {found.n}{undefined}"


def _by_hand(text: str) -> str:
    """A person's own words, marked as such, or that there are none."""
    if not text.strip():
        return "Not stated: `[card]` of the study file may say it."
    return f"*Stated by hand:* {text.strip()}"


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
