"""A site's training under a privacy budget: charged before it begins, and again if it has left."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segfed.agent.refusal import RefusedError
from segfed.dp_rules import DifferentialPrivacy
from segfed.engine import LocalTrainer, PreparedCase
from segfed.engine.private_training import PatientNoise, private_steps
from segfed.errors import ConfigError
from segfed.files import sha256_bytes
from segfed.privacy import Charge, Limit, charge, release, stated
from segfed.protocol import AgentErrorCode, Manifest, RoundReply, RoundRequest
from segfed.sites import LabelledCase, Site


def by_patient(
    cases: Sequence[PreparedCase], labels: Sequence[LabelledCase]
) -> tuple[tuple[PreparedCase, ...], ...]:
    """Prepared cases, those of one patient together.

    Args:
        cases: The cases.
        labels: The same cases in the same order, with their patients.
    """
    patients: dict[str, list[PreparedCase]] = {}
    for prepared, labelled in zip(cases, labels, strict=True):
        patients.setdefault(labelled.case.patient_id, []).append(prepared)
    return tuple(tuple(own) for own in patients.values())


def train_within_budget(
    request: RoundRequest,
    trainer: LocalTrainer,
    labels: Sequence[LabelledCase],
    *,
    site: Site,
    manifest: Manifest,
) -> RoundReply:
    """Charge a round and train it; returns what of it may leave beside the weights.

    That is nothing that the noise does not cover: no loss, no time, and for ``site`` no count.

    Args:
        request: The job, allowed by the policy.
        trainer: With the round's starting weights.
        labels: Of the trainer's cases, in their order.
        site: The site, whose budget is charged.
        manifest: The study, which states differential privacy.

    Raises:
        BudgetError: If what is left of the budget does not suffice.
        RefusedError: If the study's delta is too large for so many patients.
    """
    rules, patients = _rules(manifest), by_patient(trainer.cases, labels)
    _check_delta(rules, n_patients=len(patients))
    policy = site.settings.policy
    total = policy.maximum_epsilon
    epsilon = charge(
        site.folder,
        _charge(manifest, request),
        rules=rules,
        total=None if total is None else Limit(epsilon=total, delta=policy.maximum_delta),
    )
    steps, mu = manifest.steps_per_round, manifest.federation.proximal_mu
    if rules.unit == "patient":
        private_steps(trainer, patients, noise=_noise(rules), steps=steps, proximal_mu=mu)
    else:
        trainer.run(steps, proximal_mu=mu)
    count = len(patients) if rules.unit == "patient" else 1
    # Rounded up here, because the reply's metrics are rounded to the nearest.
    metrics = {"steps": float(steps), "epsilon": math.ceil(epsilon * 1e4) / 1e4}
    return RoundReply(b"", count, metrics)


def release_training(site: Site, manifest: Manifest, request: RoundRequest) -> None:
    """Note that the update of a round leaves now; a study without a budget has nothing to note.

    Raises:
        BudgetError: If the training was never charged.
    """
    if manifest.privacy.differential_privacy is not None:
        release(site.folder, _charge(manifest, request))


def _charge(manifest: Manifest, request: RoundRequest) -> Charge:
    """What a round costs."""
    rules = _rules(manifest)
    return Charge(
        study=manifest.study,
        manifest_sha256=manifest.sha256,
        round=request.round,
        base_sha256=sha256_bytes(request.weights),
        unit=rules.unit,
        noise_multiplier=stated(rules.noise_multiplier),
        sampling_rate=rules.sampling_rate,
        steps=rules.steps_of_round(manifest.steps_per_round),
    )


def _noise(rules: DifferentialPrivacy) -> PatientNoise:
    return PatientNoise(
        clip_norm=stated(rules.clip_norm),
        noise_multiplier=stated(rules.noise_multiplier),
        sampling_rate=rules.sampling_rate,
    )


def _rules(manifest: Manifest) -> DifferentialPrivacy:
    """The study's; asked for where it has some."""
    rules = manifest.privacy.differential_privacy
    if rules is None:
        raise ConfigError(
            f"Study {manifest.study!r} states no differential_privacy, expected some for a "
            "training with a budget. Train it without one."
        )
    return rules


def _check_delta(rules: DifferentialPrivacy, *, n_patients: int) -> None:
    """Refuse a delta that a mechanism could meet by showing one patient in full."""
    if rules.unit == "patient" and rules.delta * n_patients >= 1:
        raise RefusedError(
            AgentErrorCode.STUDY_NOT_ALLOWED,
            f"The study's delta is {rules.delta:g}, expected less than 1 / {n_patients}, one in "
            "the number of this site's training patients. Sign the study with a smaller one.",
        )
