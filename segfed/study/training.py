"""Trains the models of a study; one that is there already, from the same inputs, is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segfed.engine import (
    Plan,
    PreparedCase,
    UNet,
    build_network,
    check_weights,
    prepare,
    read_weights,
    to_bytes,
    train_local,
    write_weights,
)
from segfed.files import sha256_bytes, sha256_file, write_bytes, write_json
from segfed.protocol import FederationJob, Manifest, RoundRecord, most_spent
from segfed.run_files import STATE_FILE, read_rounds, read_state
from segfed.sites import LabelledCase
from segfed.study.events import TrainingAdvanced, TrainingFinished, TrainingStarted
from segfed.study.models import ModelId, arm_choice
from segfed.study.parallel import threads_per_worker
from segfed.study.personal import keep_personal
from segfed.study.preflight import SiteLabels
from segfed.study.records import INPUTS_FILE, WEIGHTS_FILE, ModelRecord
from segfed.study.run import StudyRun

_RECORD_FILE = "model.json"


def untrained_model(run: StudyRun, model: ModelId) -> ModelRecord:
    """The network before its first step: the start of every training of this seed."""
    state = build_network(run.plan, seed=model.seed).state_dict()
    sha256 = write_weights(run.out / model.folder / WEIGHTS_FILE, state)
    return ModelRecord(**asdict(model), sha256=sha256, steps=0, seconds=0.0, n_cases=0)


def untrained_sha256(run: StudyRun, model: ModelId) -> str:
    """The hash of the weights that `untrained_model` would write."""
    return sha256_bytes(to_bytes(build_network(run.plan, seed=model.seed).state_dict()))


@dataclass(frozen=True)
class FoundTraining:
    """What a run folder holds of one model."""

    finished: ModelRecord | None = None
    """The model, if it is complete and made from the inputs that it would have now."""

    last: ModelRecord | None = None
    """The model that was trained there last, from whatever inputs."""

    share_done: float = 0.0
    """Of the rounds of a federated training from the same inputs, how many are done."""

    @property
    def sha256(self) -> str | None:
        """Of the finished model's weights."""
        return self.finished.sha256 if self.finished else None


def find_training(run: StudyRun, model: ModelId, *, start_sha256: str) -> FoundTraining:
    """What is there of a model; nothing is changed."""
    folder = run.out / model.folder
    inputs = _inputs(run, model, start_sha256=start_sha256)
    last = _read_json(folder / _RECORD_FILE)
    finished, share_done = _finished(folder, inputs), 0.0
    is_begun = (folder / STATE_FILE).exists() and _read_json(folder / INPUTS_FILE) == inputs
    if is_begun and finished is None:
        share_done = read_state(folder).rounds_done / run.settings.budget.rounds
    return FoundTraining(finished, ModelRecord.model_validate(last) if last else None, share_done)


def train_model(run: StudyRun, model: ModelId, *, untrained: ModelRecord) -> ModelRecord:
    """One model of the study, trained now or found finished.

    Its inputs (hashes of images, labels, plan and starting weights, budget, versions, device)
    lie beside it. While they are the same, a finished model is kept and a federated training that
    was cut short goes on; otherwise the folder is emptied first.

    Args:
        run: The study.
        model: Which model.
        untrained: The starting network of its seed.

    Raises:
        TrainingError: If the training fails.
        FederationError: If a federated training fails.
    """
    folder = run.out / model.folder
    inputs = _inputs(run, model, start_sha256=untrained.sha256)
    federated = model.regime == "federated"
    total = run.settings.budget.rounds if federated else _steps(run, model)
    run.on_event(TrainingStarted(model, total, "rounds" if federated else "steps"))
    record = _finished(folder, inputs)
    reused = record is not None
    if record is None:
        if _read_json(folder / INPUTS_FILE) != inputs:
            shutil.rmtree(folder, ignore_errors=True)
            write_json(folder / INPUTS_FILE, inputs)
        train = _train_federated if federated else _train_here
        record = train(run, model, run.out / untrained.model_id.folder / WEIGHTS_FILE)
        write_json(folder / _RECORD_FILE, record.model_dump(mode="json"))
    run.on_event(TrainingFinished(model, reused, record.seconds))
    return record


def load_network(run_folder: Path, plan: Plan, record: ModelRecord) -> UNet:
    """A model's network with its weights.

    Raises:
        WeightsError: If the weights' file is missing or damaged.
    """
    path = run_folder / record.model_id.folder / WEIGHTS_FILE
    network = build_network(plan, seed=record.seed)
    state = read_weights(path)
    check_weights(state, network, source=str(path))
    network.load_state_dict(state)
    return network


def _train_here(run: StudyRun, model: ModelId, start: Path) -> ModelRecord:
    """A local or pooled model: the state with the best validation Dice, or the last one."""
    sites = _train_sites(run, model)
    network = build_network(run.plan, seed=model.seed)
    network.load_state_dict(read_weights(start))
    total = _steps(run, model)
    state, summary = train_local(
        run.plan,
        [case for site in sites for case in _prepare(run, site, site.train[model.arm])],
        validation=[case for site in sites for case in _prepare(run, site, site.validation)],
        network=network,
        seed=model.seed,
        total_steps=total,
        # As often as in the federation.
        n_validations=run.settings.budget.rounds,
        device=run.device,
        on_step=lambda done, loss: run.on_event(TrainingAdvanced(model, done, loss)),
    )
    return ModelRecord(
        **asdict(model),
        sha256=write_weights(run.out / model.folder / WEIGHTS_FILE, state),
        steps=total,
        seconds=summary.seconds,
        n_cases=summary.n_cases,
        best_step=summary.best_step,
    )


def _train_federated(run: StudyRun, model: ModelId, start: Path) -> ModelRecord:
    """The global model of the round with the best validation Dice."""
    folder, manifest = run.out / model.folder, _manifest(run, model)
    job = FederationJob(
        manifest=manifest,
        sites=tuple(site.site.folder for site in run.data.sites),
        initial_weights=start,
        out=folder,
        device=run.settings.device,
        threads=threads_per_worker(run.workers),
    )
    state = run.launch_federation(
        job,
        on_round=lambda record: run.on_event(
            TrainingAdvanced(model, record.round, record.loss, record)
        ),
    )
    best_round = state.best_round or state.rounds_done
    best = folder / f"round_{best_round:03d}.safetensors"
    write_bytes(folder / WEIGHTS_FILE, best.read_bytes())
    keep_personal(run, model, manifest, round_number=best_round)
    records = read_rounds(folder, state)
    validated = any(record.validation_dice is not None for record in records)
    return ModelRecord(
        **asdict(model),
        sha256=sha256_file(folder / WEIGHTS_FILE),
        steps=_steps_taken(records),
        seconds=sum(record.seconds for record in records),
        n_cases=sum(len(site.train[model.arm]) for site in run.data.sites),
        best_step=_steps_taken(records[:best_round]) if validated else None,
        epsilon=most_spent(records),
    )


def _steps_taken(records: Sequence[RoundRecord]) -> int:
    """Optimizer steps of all sites whose updates counted, over some rounds."""
    return sum(int(site.get("steps") or 0) for record in records for site in record.sites.values())


def _manifest(run: StudyRun, model: ModelId) -> Manifest:
    """What a federated training asks of every site."""
    return Manifest(
        study=run.settings.name,
        task=run.data.task.name,
        plan=run.plan.model_dump(mode="json"),
        arm=arm_choice(model.arm),
        train_split=run.settings.train_split,
        seed=model.seed,
        rounds=run.settings.budget.rounds,
        steps_per_round=run.settings.budget.steps_per_round,
        seconds_per_round=run.settings.budget.seconds_per_round,
        federation=run.settings.federation,
        privacy=run.settings.privacy,
    )


def _train_sites(run: StudyRun, model: ModelId) -> tuple[SiteLabels, ...]:
    """The sites whose cases a model learns from."""
    if model.regime == "local":
        return tuple(site for site in run.data.sites if site.site.name == model.train_site)
    return run.data.sites


def _steps(run: StudyRun, model: ModelId) -> int:
    """Optimizer steps of a local or pooled model."""
    budget = run.settings.budget
    return budget.local() if model.regime == "local" else budget.pooled(n_sites=len(run.data.sites))


def _prepare(
    run: StudyRun, site: SiteLabels, labelled: Sequence[LabelledCase]
) -> tuple[PreparedCase, ...]:
    """Preprocessed cases, from the site's own cache."""
    return prepare(labelled, run.plan, site.site.folder / "cache")


def _inputs(run: StudyRun, model: ModelId, *, start_sha256: str) -> dict[str, Any]:
    """Everything that a model depends on, as it lies beside it."""
    budget, federated = run.settings.budget, model.regime == "federated"
    return {
        "versions": dict(run.versions),
        "device": str(run.device),
        "regime": model.regime,
        "seed": model.seed,
        # Half a federated training goes on under the manifest that it began with, or not at all.
        "manifest_sha256": _manifest(run, model).sha256 if federated else None,
        "plan_sha256": run.plan.sha256,
        "start_sha256": start_sha256,
        "rounds": budget.rounds if federated else None,
        "steps_per_round": budget.steps_per_round,
        "steps": None if federated else _steps(run, model),
        "sites": {
            site.site.name: {
                "train": [labelled.hashes for labelled in site.train[model.arm]],
                "validation": [labelled.hashes for labelled in site.validation],
            }
            for site in _train_sites(run, model)
        },
    }


def _finished(folder: Path, inputs: dict[str, Any]) -> ModelRecord | None:
    """The model in a folder, if it is complete, intact, and made from these inputs."""
    content = _read_json(folder / _RECORD_FILE)
    if content is None or _read_json(folder / INPUTS_FILE) != inputs:
        return None
    record = ModelRecord.model_validate(content)
    weights = folder / WEIGHTS_FILE
    intact = weights.exists() and sha256_file(weights) == record.sha256
    return record if intact else None


def _read_json(path: Path) -> Any:
    """A file's content; None where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
