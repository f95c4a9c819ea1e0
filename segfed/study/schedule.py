"""What a run of a study will do, going by what its folder holds, and about how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from segfed.study.events import Action, Schedule, ScheduledModel
from segfed.study.models import (
    UNTRAINED,
    ModelId,
    ensemble_models,
    members_of,
    trained_models,
    untrained_models,
    wanted_models,
)
from segfed.study.records import ensemble_sha256
from segfed.study.run import StudyRun, budget_steps
from segfed.study.scoring import StoredScores, stored_scores
from segfed.study.training import FoundTraining, find_training, untrained_sha256


def make_schedule(run: StudyRun, *, only: Sequence[str] = ()) -> Schedule:
    """What a run would do now; computes and writes nothing.

    A model that is not wanted still counts where an earlier run finished and scored it from the
    inputs that it would have today.

    Args:
        run: The study.
        only: Filters; see `wanted_models`.

    Raises:
        ConfigError: If a filter names nothing that the study has, or nothing is left.
    """
    names = [site.site.name for site in run.data.sites]
    wanted = wanted_models(run.settings, sites=names, only=only)
    untrained, ensembles = untrained_models(run.settings), ensemble_models(run.settings)
    starts = {model.seed: untrained_sha256(run, model) for model in untrained}
    found = {
        model: find_training(run, model, start_sha256=starts[model.seed])
        for model in trained_models(run.settings, sites=names)
    }
    hashes = {model: training.sha256 for model, training in found.items()}
    hashes |= {model: starts[model.seed] for model in untrained}
    hashes |= {model: _ensemble_sha256(model, found) for model in ensembles}
    stored = {model: stored_scores(run, model, hashes[model]) for model in hashes}
    actions: dict[ModelId, Action] = {
        model: _action(training, is_wanted=model in wanted, is_scored=stored[model].n_left == 0)
        for model, training in found.items()
    }
    there = {model for model, action in actions.items() if action != "leave out"}
    for model in ensembles:
        is_made = stored[model].n_left == 0 and set(members_of(model, found)) <= there
        actions[model] = "build" if model in wanted or is_made else "leave out"
    seeds = {model.seed for model in there}
    actions |= {model: "build" if model.seed in seeds else "leave out" for model in untrained}
    order = (*untrained, *found, *ensembles)
    return Schedule(
        models=tuple(_scheduled(run, order, actions=actions, found=found, stored=stored)),
        workers=run.workers,
    )


def _action(training: FoundTraining, *, is_wanted: bool, is_scored: bool) -> Action:
    """What becomes of a model that trains."""
    if training.finished is not None:
        return "keep" if is_wanted or is_scored else "leave out"
    if not is_wanted:
        return "leave out"
    return "resume" if training.share_done else "train"


def _ensemble_sha256(model: ModelId, found: Mapping[ModelId, FoundTraining]) -> str | None:
    """What an ensemble is known by, once all its members are there."""
    hashes = [found[member].sha256 for member in members_of(model, found)]
    return ensemble_sha256([sha256 for sha256 in hashes if sha256]) if all(hashes) else None


def _scheduled(
    run: StudyRun,
    order: Sequence[ModelId],
    *,
    actions: Mapping[ModelId, Action],
    found: Mapping[ModelId, FoundTraining],
    stored: Mapping[ModelId, StoredScores],
) -> list[ScheduledModel]:
    """Each model with what it will take, going by what others took in this run folder."""
    step_rates: dict[str, list[float]] = {}
    for model, training in found.items():
        if training.last and training.last.steps:
            rates = step_rates.setdefault(model.regime, [])
            rates.append(training.last.seconds / training.last.steps)
    case_rates: dict[str, list[float]] = {}
    for model, scores in stored.items():
        case_rates.setdefault(model.regime, []).extend(scores.seconds)
    steps = {UNTRAINED: 0, **budget_steps(run)}
    scheduled = []
    for model in order:
        training = found.get(model, FoundTraining())
        left = (1 - training.share_done) * steps[model.regime] if model in found else 0
        took = training.finished.seconds if training.finished else None
        n_left = stored[model].n_left
        scheduled.append(
            ScheduledModel(
                model=model,
                action=actions[model],
                steps=steps[model.regime],
                seconds=_expected(step_rates, model.regime, left) if took is None else took,
                n_predictions=n_left,
                scoring_seconds=_expected(case_rates, model.regime, n_left),
            )
        )
    return scheduled


def _expected(rates: Mapping[str, Sequence[float]], regime: str, amount: float) -> float | None:
    """Seconds for some steps or predictions, at the mean rate of the regime, else of all others."""
    if not amount:
        return 0.0
    known = rates.get(regime) or [rate for found in rates.values() for rate in found]
    return mean(known) * amount if known else None
