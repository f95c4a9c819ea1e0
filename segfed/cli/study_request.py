"""What a study wants of a hospital, as the person who decides reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import get_args

from rich.table import Table
from rich.text import Text

from segfed.dp_rules import statement
from segfed.files import sha256_json
from segfed.privacy import Mechanism, spent_epsilon
from segfed.protocol import Arm, Manifest
from segfed.rules import FederationRules, PrivacyRules
from segfed.sites import Site

_SHOWN = {"study", "task", "arm", "train_split", "rounds", "steps_per_round", "bundle_sha256"}


def request_table(site: Site, manifest: Manifest, *, signed_by: str | None) -> Table:
    """Everything that a manifest says; a field that is added to it is shown, too.

    Args:
        site: The site that is asked.
        manifest: The study.
        signed_by: The trusted owner who signed it; None if that was not checked.
    """
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(site, manifest, signed_by=signed_by):
        table.add_row(name, Text(value))
    return table


def _rows(site: Site, manifest: Manifest, *, signed_by: str | None) -> Iterator[tuple[str, str]]:
    """Name and value of each line."""
    yield "study", manifest.study
    yield "signed by", signed_by or "not checked"
    yield "manifest", manifest.sha256
    yield "task", f"{manifest.task} (this site: {site.task.name})"
    yield "labels", _labels(site, manifest)
    yield "rounds", f"{manifest.rounds} of {manifest.steps_per_round} optimizer steps each"
    numbers, weights = _numbers(manifest.privacy), _departing(manifest.privacy)
    yield "leaves the site", f"{numbers}, and {weights}{_compressed(manifest.federation)}"
    yield from _promises(manifest)
    yield "code (declared)", manifest.bundle_sha256 or "not stated"
    content = manifest.model_dump(mode="json")
    plan = content.pop("plan")
    for name in sorted(content.keys() - _SHOWN):
        yield name.replace("_", " "), json.dumps(content[name])
    yield "plan", sha256_json(plan)
    for name, value in plan.items():
        yield f"  {name.replace('_', ' ')}", json.dumps(value)


def _numbers(rules: PrivacyRules) -> str:
    """Which numbers leave beside the weights."""
    private = rules.differential_privacy
    if private is None:
        return (
            "numbers of training and validation cases, steps, seconds, loss, mean Dice of each "
            "structure"
        )
    if private.unit == "patient":
        return (
            "numbers of training patients and validation cases, steps, what is spent of the "
            "privacy budget, mean Dice of each structure over validation cases (without noise)"
        )
    return "steps and what is spent of the privacy budget"


def _departing(rules: PrivacyRules) -> str:
    """In what form the trained weights leave."""
    if rules.differential_privacy is not None:
        return _departing_noised(rules)
    if rules.secure_aggregation:
        return (
            f"the change of the weights, clipped to the norm {rules.clip_norm:g} and masked: the "
            f"server sees the sum over at least {rules.threshold} sites; nothing is noised"
        )
    if rules.clip_norm is not None:
        return (
            f"weights: their change clipped to the norm {rules.clip_norm:g}, neither noised nor "
            "masked"
        )
    return "weights: as trained, neither clipped nor noised nor masked"


def _compressed(rules: FederationRules) -> str:
    """What is rounded off before the weights leave."""
    if rules.compression == "none":
        return ""
    return f"; what travels is their change, rounded to {rules.compression}"


def _departing_noised(rules: PrivacyRules) -> str:
    """The same with differential privacy."""
    clipped = "" if rules.clip_norm is None else f", clipped to the norm {rules.clip_norm:g}"
    if rules.secure_aggregation:
        return (
            f"the change of the weights{clipped}, noised and masked: the server sees the sum over "
            f"at least {rules.threshold} sites"
        )
    return f"weights: noised{clipped}, not masked"


def _promises(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """The differential privacy of a study, as planned and as budgeted."""
    rules = manifest.privacy.differential_privacy
    if rules is None or rules.noise_multiplier is None:
        return
    steps = rules.planned_steps(rounds=manifest.rounds, steps_per_round=manifest.steps_per_round)
    plan = Mechanism(rules.noise_multiplier, rules.sampling_rate, steps)
    planned = spent_epsilon([plan], delta=rules.delta)
    yield "differential privacy", " ".join(statement(rules, epsilon=planned))
    yield (
        "privacy budget",
        f"epsilon {rules.epsilon:g}: a round that would spend more is refused here",
    )


def _labels(site: Site, manifest: Manifest) -> str:
    """Which labels the study trains on, and how many of each arm the site has."""
    cases, ledger = site.split(manifest.train_split), site.ledger()
    counts = {
        arm: sum(ledger.current(case.case_id, arm) is not None for case in cases)
        for arm in get_args(Arm)
    }
    here = ", ".join(f"{count} {arm}" for arm, count in counts.items())
    return (
        f"{manifest.arm} ones of the split {manifest.train_split!r}, manual ones of 'validation' "
        f"(here: {here} for {len(cases)} cases to train on)"
    )
