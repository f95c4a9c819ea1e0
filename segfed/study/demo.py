"""The whole loop on synthetic hospitals: train, publish, propose, correct, train again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from segfed.errors import ConfigError
from segfed.files import write_json
from segfed.phantom import CaseCounts, generate_sites
from segfed.phantom.annotator import AnnotatedCase, annotate_site, assign_assisted
from segfed.sites import Site
from segfed.study.events import StudyEvent
from segfed.study.registry import publish_run
from segfed.study.run import LaunchFederation
from segfed.study.runner import run_study
from segfed.study.settings import Budget, StudySettings

MARKER = "demo.json"
"""Tells a folder that the demo made, and may make anew, from any other."""

StartServer = Callable[..., AbstractContextManager[str]]
"""``label_server`` of the command line: serves a site's folder to one reader, yields the URL."""


@dataclass(frozen=True)
class DemoScale:
    """Sizes at which training visibly works within minutes on two cores."""

    counts: CaseCounts
    spacing_mm: float
    plan: dict[str, Any]
    warmup: Budget
    study: Budget


def _scale(spacing_mm: float) -> DemoScale:
    """What fits into minutes; tasks differ in the size of their voxels only."""
    return DemoScale(
        counts=CaseCounts(warmup=4, train=9, validation=2, test=8),
        spacing_mm=spacing_mm,
        plan={
            "spacing_mm": (spacing_mm,) * 3,
            "patch_voxels": (32, 32, 32),
            "features": (8, 16, 32, 64),
            "batch_size": 2,
            # At 6e-3 and above some sites' own models learned nothing within these steps
            "learning_rate": 4e-3,
        },
        warmup=Budget(rounds=5, steps_per_round=18),
        study=Budget(rounds=24, steps_per_round=15),
    )


SCALES = {"kidney_tumor": _scale(5.0), "brain_tumor": _scale(4.0)}
"""By task."""


class DemoWatcher(Protocol):
    """Who is told of what happens while the demo runs."""

    def on_stage(self, title: str) -> None:
        """The next part of the loop begins."""

    def on_case(self, done: int, total: int) -> None:
        """Another synthetic case is made."""

    def on_event(self, event: StudyEvent) -> None:
        """A study says how far it is."""

    def on_label(self, site: Site, case: AnnotatedCase) -> None:
        """A reader submitted a label."""


def run_demo(
    out: Path,
    *,
    task: str,
    seed: int,
    launch_federation: LaunchFederation,
    start_server: StartServer,
    watcher: DemoWatcher,
    scale: DemoScale | None = None,
) -> Path:
    """Run the whole loop, and return the folder of the study that compares the label arms.

    Synthetic sites are made with labels drawn by simulated readers. A federation trains a model
    on the warm-up cases and publishes it to every site; there a label server proposes, and the
    reader corrects, the training cases, which that model has never seen. Then the study trains
    on the manual and on the assisted labels of the same cases, with the same seeds and budget.

    Args:
        out: Folder of the demo. One that an earlier demo made is emptied first.
        task: ``kidney_tumor`` or ``brain_tumor``.
        seed: Of the sites, the readers and the trainings.
        launch_federation: Runs one federated training.
        start_server: Serves a site for labelling while its block runs.
        watcher: Told of what happens.
        scale: Sizes; those of the task unless given.

    Raises:
        ConfigError: If there is no demo of the task, or the folder holds something else.
        FederationError: If a federated training fails.
        ServerError: If a label server does not start or refuses a label.
    """
    scale = scale or _scale_of(task)
    clear(out, task=task, seed=seed)
    watcher.on_stage("Synthetic hospitals, their labels drawn by simulated readers")
    sites = generate_sites(
        out / "sites",
        task=task,
        counts=scale.counts,
        spacing_mm=scale.spacing_mm,
        seed=seed,
        on_case=watcher.on_case,
    )
    settings = _study_settings(sites, task=task, seed=seed, scale=scale)
    watcher.on_stage("The proposing model: a federation on the warm-up cases")
    warmup = run_study(
        settings.model_copy(
            update={
                "name": "warmup",
                "arms": ("manual",),
                "regimes": ("federated",),
                "train_split": "warmup",
                "budget": scale.warmup,
            }
        ),
        out=out / "warmup",
        launch_federation=launch_federation,
        on_event=watcher.on_event,
    )
    trained = [site for site in sites if not site.settings.external]
    watcher.on_stage("Readers correct its proposals at each hospital's label server")
    for site in trained:
        publish_run(warmup, site)
        _label(site, seed=seed, start_server=start_server, watcher=watcher)
    watcher.on_stage("The study: manual against AI-assisted labels")
    return run_study(
        settings, out=out / "study", launch_federation=launch_federation, on_event=watcher.on_event
    )


def _scale_of(task: str) -> DemoScale:
    """The sizes of a task's demo."""
    if task not in SCALES:
        raise ConfigError(
            f"There is no demo of task {task!r}; expected {' or '.join(SCALES)}. To use your own "
            "images, import them with `segfed site import`."
        )
    return SCALES[task]


def clear(out: Path, *, task: str, seed: int) -> None:
    """Empty a demo's folder, or make one; what no demo made is left alone.

    Raises:
        ConfigError: If the folder holds something else.
    """
    if out.exists() and not (out / MARKER).is_file() and any(out.iterdir()):
        raise ConfigError(
            f"{out} holds files that no demo made; expected an empty or new folder. Choose "
            "another with --out."
        )
    for child in list(out.iterdir()) if out.exists() else ():
        if child.is_dir():
            shutil.rmtree(child)
        elif child.name != MARKER:  # stays to the end: a run killed here can be repeated
            child.unlink()
    write_json(out / MARKER, {"task": task, "seed": seed})


def _study_settings(
    sites: tuple[Site, ...], *, task: str, seed: int, scale: DemoScale
) -> StudySettings:
    """The study that compares the two arms."""
    return StudySettings(
        name=f"demo-{task}",
        task=task,
        sites=tuple(site.folder.resolve() for site in sites if not site.settings.external),
        external_sites=tuple(site.folder.resolve() for site in sites if site.settings.external),
        arms=("manual", "assisted"),
        regimes=("local", "federated"),
        seeds=(seed,),
        budget=scale.study,
        plan=scale.plan,
    )


def _label(site: Site, *, seed: int, start_server: StartServer, watcher: DemoWatcher) -> None:
    """Let a simulated reader correct the proposals for the site's training cases."""
    reader = assign_assisted(site)
    with start_server(site.folder, reader=reader.name) as url:
        annotate_site(
            url, site, reader, seed=seed, on_case=lambda case: watcher.on_label(site, case)
        )
