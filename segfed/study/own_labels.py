"""What a site's own training learns from: its approved labels, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segfed.errors import ConfigError, TrainingError
from segfed.protocol import Arm, ArmChoice
from segfed.sites import LabelledCase, Site, approved_labels
from segfed.sites.records import APPROVED, COUNTING
from segfed.study.preflight import VALIDATION_ARM
from segfed.study.resumable import Budget

DEFAULT_BUDGET = Budget(steps=None, seconds=30 * 60.0)

_ARMS: dict[ArmChoice, tuple[Arm, ...]] = {
    "manual": ("manual",),
    "assisted": ("assisted",),
    "mixed": ("manual", "assisted"),
}


@dataclass(frozen=True)
class Choice:
    """What to train on, and how long."""

    arm: ArmChoice = "mixed"
    """``mixed`` takes each case's newest label of either arm."""

    split: Literal["train", "warmup"] = "train"
    """Which cases; in a reader study the warm-up cases are those that no reader is to see."""

    include_submitted: bool = False
    """Also labels that nobody has reviewed."""

    clicks: str | None = None
    """Train the model that takes clicks on this label, in place of the one that proposes."""

    budget: Budget = DEFAULT_BUDGET
    seed: int = 0


@dataclass(frozen=True)
class TrainingLabels:
    """The labels of a site that its own training uses."""

    train: tuple[LabelledCase, ...]
    validation: tuple[LabelledCase, ...]


def labels_to_train_on(site: Site, choice: Choice) -> TrainingLabels:
    """The labels that a site's own training would use, checked.

    Only cases of the chosen split are trained on, and only those of the validation split chosen
    by; the latter are drawn by hand, whatever is trained on. In both, a case without an approved
    label is left out. So is a training case for which a reader is still to get a proposal, as in
    the second period of a crossover: no model proposes for a case that it has seen.

    Raises:
        ConfigError: If the site is external, which never trains.
        TrainingError: If no training case has an approved label, or readers wait for proposals for
            all that have one.
        SegfedError: If an image or label is missing, altered or damaged; see `approved_labels`.
    """
    if site.settings.external:
        raise ConfigError(
            f"Site {site.name} is external, expected one that trains: models are only scored on "
            "an external site. Train at another site."
        )
    statuses = COUNTING if choice.include_submitted else APPROVED
    approved = approved_labels(site, split=choice.split, arms=_ARMS[choice.arm], statuses=statuses)
    awaited = {
        reading.assignment.case_id
        for reading in site.ledger().readings()
        if reading.is_pending and reading.assignment.arm == "assisted"
    }
    train = tuple(item for item in approved if item.case.case_id not in awaited)
    if approved and not train:
        raise TrainingError(
            f"Site {site.name} has {len(approved)} cases to train on, but a reader is still to get "
            "a proposal for each of them. Expected at least one that nobody waits for: a model "
            "that was trained on a case cannot propose for it. Train when the study is done."
        )
    if not train:
        arm = "" if choice.arm == "mixed" else f"{choice.arm} "
        n_cases = len(site.split(choice.split))
        raise TrainingError(
            f"Site {site.name} has {n_cases} cases to train on, but none of them has an "
            f"{' or '.join(statuses)} {arm}label. Expected at least one: let a reviewer approve "
            "the labels that are right."
        )
    validation = approved_labels(
        site, split="validation", arms=(VALIDATION_ARM,), statuses=statuses
    )
    return TrainingLabels(train, validation)
