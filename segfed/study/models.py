"""Which models a study trains, and where each of them lies in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

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
    choice = next((name for name in get_args(ArmChoice) if name == arm), None)
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
