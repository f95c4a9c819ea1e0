"""Published models: from a run into a bundle, and from a bundle to where a site serves it."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from segfed.engine import Lineage, Plan, load_bundle, read_plan, read_weights, write_bundle
from segfed.engine.bundle import LINEAGE, WEIGHTS
from segfed.engine.drift import InputRange
from segfed.errors import ConfigError, SegfedError
from segfed.files import PARTIAL, sha256_file, write_text
from segfed.run_files import read_state
from segfed.settings import load_json, validated
from segfed.sites import Site, Task
from segfed.study.card import model_card
from segfed.study.models import UNTRAINED, ModelId, arm_choice
from segfed.study.records import (
    RANGE_FILE,
    SCORES_FILE,
    WEIGHTS_FILE,
    StudyRecord,
    read_inputs,
    read_scores,
    read_study,
)

CURRENT_FILE = "current"
"""Names the folder of the model that the label server serves."""

_CLICKS_SUFFIX = "_clicks"


@dataclass(frozen=True)
class PublishedModel:
    """A model at a site, without its network."""

    folder: Path
    sha256: str
    lineage: Lineage


def export_model(run_folder: Path, model: ModelId, bundle_folder: Path) -> str:
    """Write a model of a finished study as a bundle; returns the SHA-256 of its weights.

    The lineage lists the hash of every image that the model was trained on or chosen by.

    Args:
        run_folder: The study's run folder.
        model: Which model; an ensemble is several networks, and no bundle can hold it.
        bundle_folder: Where the bundle goes; one that lies there is replaced.

    Raises:
        ConfigError: If the run has no such model.
        WeightsError: If its weights are missing or damaged.
    """
    study = read_study(run_folder)
    trained = [found for found in study.models if found.regime not in (UNTRAINED, "ensemble")]
    record = next((found for found in trained if found.model_id == model), None)
    if record is None:
        known = "; ".join(str(found.model_id) for found in trained)
        raise ConfigError(
            f"{run_folder} has no model '{model}' that could be published; it has: {known}. "
            "Choose one of these."
        )
    folder = run_folder / model.folder
    return write_bundle(
        bundle_folder,
        plan=read_plan(study.plan),
        state=read_weights(folder / WEIGHTS_FILE),
        lineage=_lineage_of(study, model, folder),
        card=model_card(study, record, read_scores(run_folder / SCORES_FILE)),
    )


def _lineage_of(study: StudyRecord, model: ModelId, folder: Path) -> Lineage:
    """Where a model of a study comes from, by the inputs that lie beside it."""
    sites = read_inputs(folder)
    kinds = {site.name: site.data for site in study.sites}
    best_round = None
    if model.regime == "federated":
        best_round = read_state(folder).best_round
    return Lineage(
        study=study.settings.name,
        arm=arm_choice(model.arm),
        seed=model.seed,
        round=best_round,
        sites=tuple(sites),
        data=tuple(sorted({kinds[site] for site in sites})),
        train_images={
            site: tuple(image for image, _ in [*found["train"], *found["validation"]])
            for site, found in sites.items()
        },
        inputs=_input_range(folder / RANGE_FILE),
    )


def _input_range(path: Path) -> InputRange | None:
    """What a model's training images look like; None for one of a version that did not note it."""
    return load_json(path, InputRange, kind="range of inputs") if path.exists() else None


def click_model_name(task: Task) -> str:
    """What the model that takes a reader's clicks is called, beside the task's own."""
    return task.name + _CLICKS_SUFFIX


def publish(bundle_folder: Path, site: Site) -> Path:
    """Put a bundle where the site's label server loads it; returns its folder there.

    The bundle is checked and copied first; only then does ``current`` name it, in one step. A
    model that takes clicks comes beside the one that proposes, not in its place.

    Raises:
        WeightsError: If the bundle is damaged.
        ConfigError: If it was made for another task than the site's.
    """
    model = load_bundle(bundle_folder)
    check_fits(model.plan, site, source=str(bundle_folder))
    models = _models_folder(site, clicks=model.plan.click_label is not None)
    target = models / model.sha256[:12]
    if not _is_intact(target, bundle_folder, model.sha256):
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=models) as temporary:
            staged = Path(temporary) / "bundle"
            shutil.copytree(bundle_folder, staged)
            if target.is_dir():
                # The server may be reading it: each file is there at any moment, old or new.
                for path in filter(Path.is_file, staged.rglob("*")):
                    path.replace(target / path.relative_to(staged))
            else:
                staged.rename(target)
    write_text(models / CURRENT_FILE, f"{target.name}\n")
    return target


def check_fits(plan: Plan, site: Site, *, source: str) -> None:
    """Refuse a model that was made for another task than the site's.

    Raises:
        ConfigError: If channels or labels differ; ``source`` names the model.
    """
    for field in ("channels", "labels"):
        found, expected = getattr(plan, field), getattr(site.task, field)
        if found != expected:
            raise ConfigError(
                f"{source} was trained for task {plan.task!r} with {field} {found}; "
                f"site {site.name} works on {site.task.name!r} with {expected}. Choose a model "
                "of the site's own task."
            )


def publish_run(run_folder: Path, site: Site, *, model: ModelId | None = None) -> Path:
    """Put a model of a finished study where the site's label server loads it; see `publish`.

    Args:
        run_folder: The study's run folder.
        site: Where to publish.
        model: Which model; by default the first that all sites trained, federated before pooled.

    Raises:
        ConfigError: If the run has no such model.
        WeightsError: If its weights are missing or damaged.
    """
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary) / "bundle"
        export_model(run_folder, model or shared_model(run_folder), bundle)
        return publish(bundle, site)


def shared_model(run_folder: Path) -> ModelId:
    """The first model that learned from all sites, federated before pooled.

    Raises:
        ConfigError: If every model of the run learned from one site alone.
    """
    models = [record.model_id for record in read_study(run_folder).models]
    for regime in ("federated", "pooled"):
        for model in models:
            if model.regime == regime:
                return model
    raise ConfigError(
        f"{run_folder} has no federated or pooled model, only {'; '.join(map(str, models))}. "
        "Name the model to publish."
    )


def current_model(site: Site, *, clicks: bool = False) -> Path | None:
    """Folder of the bundle that the site's label server serves; None before the first one.

    Args:
        site: The site.
        clicks: The one that takes clicks, in place of the one that proposes.

    Raises:
        ConfigError: If the folder is not there.
    """
    models = _models_folder(site, clicks=clicks)
    name_file = models / CURRENT_FILE
    if not name_file.exists():
        return None
    folder = models / name_file.read_text(encoding="utf-8").strip()
    if not folder.is_dir():
        raise ConfigError(
            f"{name_file} names the model {folder.name!r}, but {folder} is not there. Publish a "
            "model to this site again."
        )
    return folder


def model_fault(site: Site, *, clicks: bool = False) -> str | None:
    """Why the label server cannot use the published model; None if it can, or if there is none.

    Files are named by their place in the site's folder: readers, who see this, learn no more.

    Args:
        site: The site.
        clicks: The model that takes clicks, in place of the one that proposes.
    """
    try:
        folder = current_model(site, clicks=clicks)
        if folder is None:
            return None
        check_fits(load_bundle(folder).plan, site, source=f"The published model {folder.name}")
    except (SegfedError, OSError) as error:
        return str(error).replace(f"{site.folder}/", "")
    return None


def published_models(site: Site) -> tuple[PublishedModel, ...]:
    """Every model that was ever published at a site for its task, those with clicks last.

    Raises:
        ConfigError: If a lineage is damaged.
    """
    return tuple(
        PublishedModel(
            folder=path.parent,
            sha256=sha256_file(path.parent / WEIGHTS),
            lineage=_read_lineage(path),
        )
        for clicks in (False, True)
        for path in sorted(_models_folder(site, clicks=clicks).glob(f"*/{LINEAGE}"))
    )


def _read_lineage(path: Path) -> Lineage:
    """One model's ``lineage.json``."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    return validated(raw, Lineage, source=str(path))


def _is_intact(folder: Path, bundle_folder: Path, sha256: str) -> bool:
    """Whether the same model with the same history lies there already."""
    weights, lineage = folder / WEIGHTS, folder / LINEAGE
    return (
        lineage.exists()
        and lineage.read_bytes() == (bundle_folder / LINEAGE).read_bytes()
        and weights.exists()
        and sha256_file(weights) == sha256
    )


def _models_folder(site: Site, *, clicks: bool) -> Path:
    """Where a site keeps the published models of its task."""
    name = click_model_name(site.task) if clicks else site.task.name
    return site.folder / "models" / name
