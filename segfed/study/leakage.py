"""What the models of a finished study give away about its training patients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from segfed.attacks import (
    FEWEST_PATIENTS,
    Advantage,
    Candidate,
    CaseFit,
    Inversion,
    InversionSettings,
    attack_advantage,
    case_fit,
    invert_updates,
    usual_exposures,
)
from segfed.engine import (
    Plan,
    PreparedCase,
    UNet,
    prepare,
    read_plan,
)
from segfed.errors import ConfigError
from segfed.files import write_text
from segfed.rules import PrivacyRules
from segfed.settings import Settings, load_json
from segfed.sites import LabelledCase
from segfed.study.models import UNTRAINED, arm_choice
from segfed.study.preflight import SiteLabels, StudyData, check_study
from segfed.study.records import ModelRecord, StudyRecord, read_inputs, read_study
from segfed.study.training import load_network

ATTACKS_FILE = "attacks.json"

AttackName = Literal["loss", "dice", "calibrated loss"]
"""By what a patient is called a member: a low loss, a high Dice, or a loss that is low beside that
of models which never saw the patient."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is attacked, the number done and the number in all."""


class Membership(Settings):
    """One attack on one model."""

    regime: str
    arm: str
    seed: int
    train_site: str
    attack: AttackName
    result: Advantage


class Reconstruction(Settings):
    """One exposure of one model's round."""

    model: str
    """The model that the round starts from, in words."""

    result: Inversion


class AttackRecord(Settings):
    """``attacks.json``: what a study's models were found to give away."""

    schema_version: Literal[1] = 1
    study: str
    privacy: PrivacyRules
    """What the federated models were trained under."""

    seed: int
    n_bootstrap: int
    membership: tuple[Membership, ...]
    not_attacked: tuple[str, ...]
    """Models with too few patients for an attack that means something."""

    inversion: tuple[Reconstruction, ...]


def attack_study(
    run_folder: Path,
    *,
    device: torch.device,
    seed: int = 0,
    n_bootstrap: int = 1000,
    inversion: InversionSettings | None,
    on_progress: OnProgress = lambda _what, _done, _total: None,
) -> AttackRecord:
    """Attack every trained model of a finished study; writes and returns ``attacks.json``.

    Members are the training patients of a model's sites, others the test patients of the same
    sites; validation patients, whom a model was chosen by, are neither. The calibrated attack takes
    the local models of other sites and the same arm, which saw neither.

    Args:
        run_folder: The study's run folder; the sites must be where they were.
        device: Where to predict; reconstructions run on the CPU.
        seed: Of halvings, resampling and patches.
        n_bootstrap: Resamples behind each interval of a membership attack.
        inversion: How hard to try to reconstruct patches; None leaves that out.
        on_progress: Told of the progress.

    Raises:
        ConfigError: If the run is not finished, or the sites have other labels than then.
        CaseError: If a site lacks files.
        WeightsError: If a model is missing or damaged.
        PrivacyError: If the plan takes clicks, and reconstructions are wanted.
    """
    study = read_study(run_folder)
    run = _Run(run_folder, study, read_plan(study.plan), check_study(study.settings), device)
    reconstructions = _reconstructions(run, inversion, on_progress) if inversion else ()
    trained = [model for model in study.models if model.regime not in (UNTRAINED, "ensemble")]
    membership: list[Membership] = []
    not_attacked: list[str] = []
    for done, model in enumerate(trained, start=1):
        found = _memberships(run, model, trained, seed=seed, n_bootstrap=n_bootstrap)
        membership += found
        if not found:
            not_attacked.append(str(model.model_id))
        on_progress("membership", done, len(trained))
    record = AttackRecord(
        study=study.settings.name,
        privacy=study.settings.privacy,
        seed=seed,
        n_bootstrap=n_bootstrap,
        membership=tuple(membership),
        not_attacked=tuple(not_attacked),
        inversion=reconstructions,
    )
    write_text(run_folder / ATTACKS_FILE, record.model_dump_json(indent=2) + "\n")
    return record


def read_attacks(run_folder: Path) -> AttackRecord | None:
    """What was found before; None where nobody attacked.

    Raises:
        ConfigError: If the file is damaged.
    """
    path = run_folder / ATTACKS_FILE
    return load_json(path, AttackRecord, kind="record of attacks") if path.exists() else None


@dataclass(frozen=True)
class _Run:
    """A finished study with its sites, and how each model fits each case, as far as looked at."""

    folder: Path
    study: StudyRecord
    plan: Plan
    data: StudyData
    device: torch.device
    fits: dict[tuple[str, str, str], CaseFit] = field(default_factory=dict)

    def network(self, model: ModelRecord) -> UNet:
        """A model's network with its weights."""
        return load_network(self.folder, self.plan, model)

    def prepared(
        self, site: SiteLabels, labelled: Sequence[LabelledCase]
    ) -> tuple[PreparedCase, ...]:
        """Preprocessed cases, from the site's own cache."""
        return prepare(labelled, self.plan, site.site.folder / "cache")

    def fit_all(
        self, model: ModelRecord, site: SiteLabels, labelled: Sequence[LabelledCase]
    ) -> list[CaseFit]:
        """How a model fits some cases of a site; each is predicted once."""
        keys = [
            (model.sha256, case.case.image_sha256, case.record.label_sha256) for case in labelled
        ]
        absent = [n for n, key in enumerate(keys) if key not in self.fits]
        if absent:
            network = self.network(model)
            cases = self.prepared(site, [labelled[n] for n in absent])
            for n, case in zip(absent, cases, strict=True):
                self.fits[keys[n]] = case_fit([network], self.plan, case, device=self.device)
        return [self.fits[key] for key in keys]


def _memberships(
    run: _Run,
    model: ModelRecord,
    trained: Sequence[ModelRecord],
    *,
    seed: int,
    n_bootstrap: int,
) -> list[Membership]:
    """The attacks on one model; none where it has too few patients."""
    candidates: dict[AttackName, list[Candidate]] = {"loss": [], "dice": [], "calibrated loss": []}
    trained_on = _trained_on(run, model)
    for site in run.data.sites:
        if site.site.name not in trained_on:
            continue
        members = _used(site, model, trained_on[site.site.name])
        if min(_n_patients(members), _n_patients(site.test)) < FEWEST_PATIENTS:
            continue
        references = [
            other
            for other in trained
            if other.regime == "local"
            and other.arm == model.arm
            and other.train_site != site.site.name
            and other.model_id != model.model_id
        ]
        for labelled, is_member in ((members, True), (site.test, False)):
            for name, scores in _scores(run, model, references, site, labelled).items():
                candidates[name] += [
                    Candidate(site.site.name, score, is_member) for score in scores
                ]
    return [
        Membership(
            regime=model.regime,
            arm=model.arm,
            seed=model.seed,
            train_site=model.train_site,
            attack=name,
            result=attack_advantage(found, seed=seed, n_bootstrap=n_bootstrap),
        )
        for name, found in candidates.items()
        if found
    ]


def _scores(
    run: _Run,
    model: ModelRecord,
    references: Sequence[ModelRecord],
    site: SiteLabels,
    labelled: Sequence[LabelledCase],
) -> Mapping[AttackName, list[float]]:
    """Each attack's score of each patient, the mean over the patient's cases."""
    fits = run.fit_all(model, site, labelled)
    losses = np.array([fit.loss for fit in fits])
    found: dict[AttackName, list[float]] = {
        "loss": _by_patient(labelled, -losses),
        "dice": _by_patient(labelled, [fit.dice for fit in fits]),
    }
    if references:
        usual = np.mean(
            [[fit.loss for fit in run.fit_all(other, site, labelled)] for other in references],
            axis=0,
        )
        found["calibrated loss"] = _by_patient(labelled, usual - losses)
    return found


def _by_patient(labelled: Sequence[LabelledCase], values: Iterable[float]) -> list[float]:
    """Mean over the cases of each patient; patients without a defined value are left out."""
    by_patient: dict[str, list[float]] = {}
    for item, value in zip(labelled, values, strict=True):
        if np.isfinite(value):
            by_patient.setdefault(item.case.patient_id, []).append(float(value))
    return [float(np.mean(of_one)) for of_one in by_patient.values()]


def _n_patients(labelled: Iterable[LabelledCase]) -> int:
    return len({item.case.patient_id for item in labelled})


def _trained_on(run: _Run, model: ModelRecord) -> dict[str, list[list[str]]]:
    """Per site, image and label hash of each training case, as they lie beside the model."""
    sites = read_inputs(run.folder / model.model_id.folder)
    return {name: found["train"] for name, found in sites.items()}


def _used(
    site: SiteLabels, model: ModelRecord, trained_on: Sequence[Sequence[str]]
) -> list[LabelledCase]:
    """The site's cases that a model was trained on, with the labels that it saw.

    Raises:
        ConfigError: If the site has other labels now.
    """
    hashes = {tuple(pair) for pair in trained_on}
    found = [
        item
        for item in site.train[arm_choice(model.arm)]
        if (item.case.image_sha256, item.record.label_sha256) in hashes
    ]
    if len(found) != len(hashes):
        raise ConfigError(
            f"Site {site.site.name} has {len(found)} of the {len(hashes)} labels that model "
            f"'{model.model_id}' was trained on; expected all of them, or members would pass for "
            "others. Run the study again, and attack that."
        )
    return found


def _reconstructions(
    run: _Run, settings: InversionSettings, on_progress: OnProgress
) -> tuple[Reconstruction, ...]:
    """Attacks on a round from the untrained network, and on one from a trained model."""
    study, budget = run.study, run.study.settings.budget
    shared = [model for model in study.models if model.regime in ("federated", "pooled", "local")]
    models = [
        *[model for model in study.models if model.regime == UNTRAINED][:1],
        *sorted(shared, key=lambda model: model.regime != "federated")[:1],
    ]
    arm = study.settings.arms[0]
    cases = [case for site in run.data.sites for case in run.prepared(site, site.train[arm])]
    exposures = usual_exposures(
        run.plan, n_steps=budget.steps_per_round, n_sites=len(run.data.sites)
    )
    return tuple(
        Reconstruction(model=str(model.model_id), result=result)
        for model in models
        for result in invert_updates(
            run.network(model),
            run.plan,
            cases,
            exposures=exposures,
            settings=settings,
            on_attack=lambda done, total: on_progress("reconstruction", done, total),
        )
    )
