"""Which models a study trains, and where each of them lies in the run folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from segfed.errors import ConfigError
from segfed.protocol import ArmChoice
from segfed.study.settings import StudySettings

ALL_SITES = "all"
"""Stands for the training site of a model that learned from every site."""

UNTRAINED = "untrained"
"""The regime of the network before its first step: the baseline that training must beat."""

NO_ARM = "none"
"""The arm of the untrained network, which saw no label."""


@dataclass(frozen=True, order=True)
class ModelId:
    """What tells one model of a study from the others."""

    regime: str
    arm: str
    seed: int
    train_site: str
    """The site whose cases it learned from, or ``all``."""

    @property
    def folder(self) -> Path:
        """Where the model lies, relative to the run folder."""
        shared = Path(self.regime) / self.arm / f"seed{self.seed}"
        return shared / self.train_site if self.regime == "local" else shared

    @property
    def predictions(self) -> Path:
        """Where its predictions lie, relative to the run folder; one folder a test site."""
        return Path("predictions") / self.regime / self.arm / f"seed{self.seed}" / self.train_site

    def __str__(self) -> str:
        """The model in words, for progress and messages."""
        words = [self.regime]
        if self.regime == "local":
            words.append(self.train_site)
        if self.arm != NO_ARM:
            words.append(self.arm)
        return f"{' '.join(words)}, seed {self.seed}"


def arm_choice(arm: str) -> ArmChoice:
    """An arm by its name, as records and folders state it.

    Raises:
        ValueError: If it names no labels, as that of the untrained network.
    """
    choices: tuple[ArmChoice, ...] = get_args(ArmChoice)
    choice = next((name for name in choices if name == arm), None)
    if choice is None:
        raise ValueError(
            f"found arm {arm!r}, expected one of {', '.join(get_args(ArmChoice))}; name a model "
            "that was trained"
        )
    return choice


def untrained_models(settings: StudySettings) -> tuple[ModelId, ...]:
    """The starting network of each seed; every regime and arm of a seed starts from it."""
    return tuple(ModelId(UNTRAINED, NO_ARM, seed, ALL_SITES) for seed in settings.seeds)


def trained_models(settings: StudySettings, *, sites: Sequence[str]) -> tuple[ModelId, ...]:
    """The models that train, in the order in which they do; ensembles train nothing."""
    return tuple(
        ModelId(regime, arm, seed, train_site)
        for arm in settings.arms
        for seed in settings.seeds
        for regime in ("local", "pooled", "federated")
        if regime in settings.regimes
        for train_site in (sites if regime == "local" else (ALL_SITES,))
    )


def ensemble_models(settings: StudySettings) -> tuple[ModelId, ...]:
    """The ensembles of local models, which exist without any training of their own."""
    return tuple(
        ModelId("ensemble", arm, seed, ALL_SITES)
        for arm in settings.arms
        for seed in settings.seeds
        if "ensemble" in settings.regimes
    )


def members_of(model: ModelId, models: Iterable[ModelId]) -> tuple[ModelId, ...]:
    """The local models that an ensemble averages; none for any other model."""
    if model.regime != "ensemble":
        return ()
    key = ("local", model.arm, model.seed)
    return tuple(other for other in models if (other.regime, other.arm, other.seed) == key)


def wanted_models(
    settings: StudySettings, *, sites: Sequence[str], only: Sequence[str] = ()
) -> frozenset[ModelId]:
    """The models that some filters leave, with the local models that a wanted ensemble averages.

    Args:
        settings: The study.
        sites: Names of the sites that train.
        only: ``regime=federated``, ``arm=manual``, ``seed=1`` or ``site=north``, or one of these
            values alone. Several of one kind widen the choice, another kind narrows it; ``site``
            speaks of local models, because the others learn from every site.

    Raises:
        ConfigError: If a filter names nothing that the study has, or nothing is left.
    """
    choices = {
        "regime": settings.regimes,
        "arm": settings.arms,
        "seed": tuple(map(str, settings.seeds)),
        "site": tuple(sites),
    }
    chosen: dict[str, set[str]] = {}
    for wish in only:
        kind, value = _kind_and_value(wish, choices)
        chosen.setdefault(kind, set()).add(value)
    models = (*trained_models(settings, sites=sites), *ensemble_models(settings))
    wanted = {model for model in models if _fits(model, chosen)}
    if not wanted:
        raise ConfigError(
            f"No model of study {settings.name!r} fits --only {' --only '.join(only)}; expected "
            f"filters that leave one. {_known(choices)} A site leaves local models only."
        )
    return frozenset(wanted.union(*(members_of(model, models) for model in wanted)))


def _kind_and_value(wish: str, choices: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """A filter's kind and value; the kind may be left out where only one has the value."""
    kind, _, value = wish.rpartition("=")
    kinds = [name for name, values in choices.items() if kind in ("", name) and value in values]
    if len(kinds) != 1:
        found = f"names one value of {' and '.join(kinds)}" if kinds else "names nothing here"
        raise ConfigError(
            f"--only {wish} {found}; expected one of the study's values, as in `--only seed=1` or "
            f"`--only federated`. {_known(choices)}"
        )
    return kinds[0], value


def _fits(model: ModelId, chosen: Mapping[str, set[str]]) -> bool:
    """Whether a model has one of the chosen values of each kind."""
    of_model = {
        "regime": model.regime,
        "arm": model.arm,
        "seed": str(model.seed),
        "site": model.train_site,
    }
    return all(of_model[kind] in values for kind, values in chosen.items())


def _known(choices: Mapping[str, Sequence[str]]) -> str:
    """What may be named, for messages."""
    parts = [f"{kind} {', '.join(values)}" for kind, values in choices.items()]
    return f"The study has: {'; '.join(parts)}."
