"""A site's own training: the model that it serves goes on learning from its approved labels.

Or it learns to take clicks (`segfed.engine.clicks`), and becomes a second model beside it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segfed import __version__
from segfed.engine import (
    Lineage,
    Model,
    Plan,
    State,
    UNet,
    build_network,
    load_bundle,
    make_plan,
    prepare,
    read_plan,
    with_click_inputs,
    write_bundle,
)
from segfed.errors import ConfigError, TrainingError
from segfed.files import locked
from segfed.sites import Site
from segfed.study.card import fine_tune_card
from segfed.study.own_labels import Choice, TrainingLabels, labels_to_train_on
from segfed.study.registry import check_fits, current_model, publish
from segfed.study.resumable import OnState, TrainingState, train_resumably

WORK_FOLDER = Path("cache", "fine_tune")
"""Where a site's training keeps its progress; one at a time."""

_RATE_FRACTION = 0.1
"""Share of the plan's learning rate for a model that has learned already.

The optimizer starts without a memory, and a few local cases stand against all that the hospitals
taught the model: at the full rate its first hundred steps would undo more than they add.
"""


CLICK_RATE_FRACTION = 0.3
"""The same for a model that begins to take clicks, whose new inputs have all to learn.

Measured on synthetic kidney tumors with benchmarks/clicks.py: at the full rate the network forgot
how to segment without clicks (Dice 0.69 before, 0.58 after 300 steps; 0.69 at this rate).
"""


@dataclass(frozen=True)
class FineTuned:
    """What a site's own training brought."""

    n_train: int
    n_validation: int
    n_of_origin: dict[str, int]
    """Training labels by origin."""

    parent: str | None
    """SHA-256 of the model that it started from."""

    state: TrainingState
    is_better: bool
    """Whether it is worth using: nothing was measured, or its Dice is above that of the start."""

    sha256: str | None
    """The new model; None where it is no better."""

    published: Path | None


@dataclass(frozen=True)
class _Training:
    """What a training is made from."""

    site: Site
    choice: Choice
    labels: TrainingLabels
    parent: Model | None
    """The model that it starts from."""

    plan: Plan

    @property
    def parent_sha256(self) -> str | None:
        """Of the weights that it starts from."""
        return self.parent.sha256 if self.parent else None

    def inputs(self, device: torch.device) -> dict[str, Any]:
        """Everything that the result depends on."""
        return {
            "version": __version__,
            "device": str(device),
            "parent": self.parent_sha256,
            "plan": self.plan.sha256,
            "steps": self.choice.budget.steps,
            "seconds": self.choice.budget.seconds,
            "seed": self.choice.seed,
            "train": [labelled.hashes for labelled in self.labels.train],
            "validation": [labelled.hashes for labelled in self.labels.validation],
        }


def fine_tune(
    site: Site,
    choice: Choice,
    *,
    start: Path | None = None,
    device: torch.device,
    out: Path | None = None,
    publish_at_site: bool = False,
    on_state: OnState,
) -> FineTuned:
    """Train a model on a site's approved labels, and keep it if it is better than the start.

    Goes on from the site's published model, also to a model that takes clicks; where there is
    none, from random weights by the task's plan. Everything is checked before the first step. A
    call that was killed goes on where it stopped when it is repeated.

    Args:
        site: The site, as loaded.
        choice: What to train on, and how long.
        start: A model's bundle to start from in place of the published one.
        device: Where to compute.
        out: Where the new model's bundle goes, if it is to be kept beside what is published.
        publish_at_site: Put the new model where the site's label server loads it.
        on_state: Called after each step.

    Raises:
        SegfedError: As `labels_to_train_on`, and if the starting model is damaged or of another
            task, another training of the site is running, the training fails, or another model
            was published at the site meanwhile.
    """
    with _one_at_a_time(site):
        served = _served(site, choice)
        training = _prepared(site, choice, start=start)
        state, weights = _train(training, device=device, on_state=on_state)
        is_better = _is_better(state)
        sha256 = published = None
        if is_better:
            bundle = out or site.folder / WORK_FOLDER / "bundle"
            sha256 = _write(bundle, training, state=state, weights=weights)
            if publish_at_site:
                _check_still_served(site, choice, served, bundle, kept=out is not None)
                published = publish(bundle, site)
        shutil.rmtree(site.folder / WORK_FOLDER, ignore_errors=True)
    return FineTuned(
        n_train=len(training.labels.train),
        n_validation=len(training.labels.validation),
        n_of_origin=dict(Counter(item.record.origin for item in training.labels.train)),
        parent=training.parent_sha256,
        state=state,
        is_better=is_better,
        sha256=sha256,
        published=published,
    )


def _prepared(site: Site, choice: Choice, *, start: Path | None) -> _Training:
    """The training that was chosen, checked."""
    labels = labels_to_train_on(site, choice)
    folder = start or current_model(site)
    parent = load_bundle(folder) if folder else None
    if parent:
        check_fits(parent.plan, site, source=str(folder))
    return _Training(site, choice, labels, parent, _plan(site, choice, parent))


def _train(
    training: _Training, *, device: torch.device, on_state: OnState
) -> tuple[TrainingState, State]:
    """Train, or go on with a training from the same inputs."""
    plan, parent, seed = training.plan, training.parent, training.choice.seed
    rate = plan.learning_rate
    if parent:
        rate *= _RATE_FRACTION if parent.plan == plan else CLICK_RATE_FRACTION
    cache = training.site.folder / "cache"
    weights, state = train_resumably(
        training.site.folder / WORK_FOLDER,
        plan.model_copy(update={"learning_rate": rate}),
        prepare(training.labels.train, plan, cache),
        validation=prepare(training.labels.validation, plan, cache),
        network=_network(plan, parent, seed=seed),
        seed=seed,
        budget=training.choice.budget,
        inputs=training.inputs(device),
        device=device,
        on_state=on_state,
    )
    return state, weights


def _served(site: Site, choice: Choice) -> Path | None:
    """The published model whose place the new one would take."""
    return current_model(site, clicks=choice.clicks is not None)


def _plan(site: Site, choice: Choice, parent: Model | None) -> Plan:
    """The starting model's plan, or the task's, which takes clicks if that was chosen."""
    plan = parent.plan if parent else make_plan(site.task)
    if plan.click_label == choice.clicks:
        return plan
    if plan.click_label is not None:
        raise ConfigError(
            f"The model to start from takes clicks on {plan.click_label!r}, expected one that "
            f"takes {f'them on {choice.clicks!r}' if choice.clicks else 'none'}. Start from "
            "another model, or name its label with --clicks."
        )
    return read_plan(plan.model_dump() | {"click_label": choice.clicks})


def _network(plan: Plan, parent: Model | None, *, seed: int) -> UNet:
    """The network as it is before the first step."""
    if parent is None:
        return build_network(plan, seed=seed)
    if parent.plan == plan:
        return parent.network
    network = build_network(plan, seed=seed)
    network.load_state_dict(with_click_inputs(parent.network.state_dict(), network))
    return network


def _is_better(state: TrainingState) -> bool:
    """Whether a training is worth using; where nothing was measured, nothing speaks against it."""
    if state.start_dice is None:
        return True
    return state.best_dice is not None and state.best_dice > state.start_dice


def _write(bundle: Path, training: _Training, *, state: TrainingState, weights: State) -> str:
    """Write the new model's bundle; returns the SHA-256 of its weights."""
    lineage = _lineage(training)
    return write_bundle(
        bundle,
        plan=training.plan,
        state=weights,
        lineage=lineage,
        card=fine_tune_card(
            training.site.task,
            lineage,
            site=training.site.name,
            n_train=len(training.labels.train),
            n_validation=len(training.labels.validation),
            steps=state.best_step or state.total_steps,
            start_dice=state.start_dice,
            dice=state.best_dice,
            clicks=training.choice.clicks,
        ),
    )


def _lineage(training: _Training) -> Lineage:
    """Where the new model comes from: all that its parent saw, and the cases of this training."""
    site, choice, labels = training.site, training.choice, training.labels
    before = training.parent.lineage if training.parent else None
    seen = dict(before.train_images) if before else {}
    new = (item.case.image_sha256 for item in (*labels.train, *labels.validation))
    seen[site.name] = tuple(dict.fromkeys((*seen.get(site.name, ()), *new)))
    sites, data = (before.sites, before.data) if before else ((), ())
    return Lineage(
        study="local training",
        arm=choice.arm if before is None or before.arm == choice.arm else "mixed",
        seed=choice.seed,
        sites=tuple(dict.fromkeys((*sites, site.name))),
        data=tuple(sorted({*data, site.settings.data})),
        train_images=seen,
        parent=training.parent_sha256,
        inputs=before.inputs if before else None,
    )


def _check_still_served(
    site: Site, choice: Choice, served: Path | None, bundle: Path, *, kept: bool
) -> None:
    """Refuse to publish over a model that came while this one was being trained."""
    now = _served(site, choice)
    if now == served:
        return
    where = f"The new model lies in {bundle}. " if kept else ""
    raise TrainingError(
        f"Site {site.name} now serves model {now.name if now else None}, expected "
        f"{served.name if served else 'none'} as when this training began: another model was "
        f"published meanwhile, and stays. {where}Train again to go on from that one."
    )


def _one_at_a_time(site: Site) -> AbstractContextManager[None]:
    """Hold the site's training, so that no two share a folder of progress."""
    (site.folder / "cache").mkdir(exist_ok=True)
    taken = TrainingError(
        f"Another training of site {site.name} is running, expected one at a time. Wait until it "
        "is done, or stop it."
    )
    return locked(site.folder / "cache" / "fine_tune.lock", otherwise=taken)
