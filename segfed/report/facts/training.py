"""What the records say of models, their training and what the server of a federation sees."""

from __future__ import annotations

from collections.abc import Iterator

from segfed.dp_rules import DifferentialPrivacy, statement
from segfed.report.facts.wording import Report, listed, model_name, times
from segfed.report.text import duration, joined, number, words

_TOLD_ELSEWHERE = (
    "spacing_mm", "window_hu", "task", "modality", "channels", "labels", "structures",
)  # fmt: skip
"""Parts of a plan that are the task's, or of preprocessing."""

_NO_FEDERATION = "No model of the run was trained in a federation."


def technology(report: Report) -> Iterator[str]:
    """What kind of model it is."""
    task = report["task"]
    yield (
        f"A 3D UNet (deep learning). Task: {task['title']}. It segments "
        f"{joined([words(name) for name in task['structures']])}."
    )


def preprocessing(report: Report) -> Iterator[str]:
    """What happens to an image before the network."""
    plan = report["methods"]["plan"]
    yield f"Resampled to {times(plan['spacing_mm'])} mm (RAS axes)."
    if plan.get("window_hu"):
        low, high = (number(value, 0) for value in plan["window_hu"])
        yield f"Intensities clipped to {low} to {high} HU."


def network(report: Report) -> Iterator[str]:
    """The plan by which the network was built."""
    yield f"{listed(report['methods']['plan'], but=_TOLD_ELSEWHERE)}."
    yield f"SHA-256 of the plan: {report['methods']['plan_sha256']}."


def initial_weights(report: Report) -> Iterator[str]:
    """Where training began."""
    for model in report["methods"]["models"]:
        if model["regime"] == "untrained":
            yield f"Seed {model['seed']}: random weights, SHA-256 {model['sha256']}."


def training(report: Report) -> Iterator[str]:
    """Budgets and times."""
    budget = ", ".join(f"{regime} {n}" for regime, n in report["budget_steps"].items())
    yield f"Optimizer steps of a model (federated: of all sites): {budget}."
    yield f"Budget: {listed(report['settings']['budget'])}."
    seconds = sum(model["seconds"] for model in report["methods"]["models"])
    yield f"Training time in all: {duration(seconds)} on {report['methods']['device']}."


def choice_by_validation(report: Report) -> Iterator[str]:
    """By what the final weights were chosen."""
    chosen = [model for model in report["methods"]["models"] if model["best_step"] is not None]
    if chosen:
        yield "The weights with the best Dice on hand-drawn validation labels were kept, after:"
        for model in chosen:
            yield f"{model_name(model)}: {model['best_step']} of {model['steps']} steps."


def ensemble(report: Report) -> Iterator[str]:
    """Whether there is one."""
    yield (
        "The ensemble averages the local models of all sites."
        if "ensemble" in report["settings"]["regimes"]
        else "The study has no ensemble."
    )


def federation(report: Report) -> Iterator[str]:
    """Rules and course of each federated training."""
    if not report["federation"]:
        yield _NO_FEDERATION
        return
    yield f"{listed(report['settings']['federation'])}."
    for run in report["federation"]:
        yield (
            f"{run['arm']} labels, seed {run['seed']}: {run['rounds']} rounds, the best "
            f"{run['best_round']}; {len(run['dropped'])} updates of sites left out."
        )
        if run.get("ended"):
            yield run["ended"]


def privacy(report: Report) -> Iterator[str]:
    """What of a site's update the server sees."""
    if report["federation"]:
        settings = report["settings"]["privacy"]
        yield f"{listed(settings, but=('differential_privacy',))}."
        yield (
            "The server sees nothing but the sum of the sites' updates."
            if settings["secure_aggregation"]
            else "The server sees the update of each site."
        )
        yield from _promise(report)
    else:
        yield _NO_FEDERATION


def _promise(report: Report) -> Iterator[str]:
    """What was spent of the privacy budget, by each training and by all; nothing without one."""
    settings = report["settings"]["privacy"].get("differential_privacy")
    if settings is None:
        yield "Nothing was noised: there is no limit to what the updates and the model may tell."
        return
    rules = DifferentialPrivacy.model_validate(settings)
    private = [model for model in report["methods"]["models"] if model.get("epsilon") is not None]
    for model in private:
        yield f"{model_name(model)}: {' '.join(statement(rules, epsilon=model['epsilon']))}"
    if len(private) > 1:
        total = sum(model["epsilon"] for model in private)
        yield (
            f"These {len(private)} models together, where they learned from the same data: "
            f"epsilon {number(total, 2)}, delta {len(private) * rules.delta:g} (sums)."
        )
    others = sorted({m["regime"] for m in report["methods"]["models"]} - {"federated", "untrained"})
    if others:
        yield f"Models of other regimes ({joined(others)}) were trained without noise."


def software(report: Report) -> Iterator[str]:
    """Versions behind the figures."""
    versions = report["methods"]["versions"].items()
    yield f"{', '.join(f'{name} {version}' for name, version in versions)}."


def hashes(report: Report) -> Iterator[str]:
    """Every model's weights."""
    for model in report["methods"]["models"]:
        if model["regime"] != "untrained":
            yield f"{model_name(model)}: SHA-256 {model['sha256']}."


def protocol(report: Report) -> Iterator[str]:
    """The settings as they were resolved."""
    yield f"study.json of the run holds all settings of study {report['study']}."
