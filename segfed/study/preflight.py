"""What must hold before a study trains anything: sites, labels, and no case on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from segfed.errors import CaseError, ConfigError
from segfed.evaluation.statistics import MINIMUM_CASES
from segfed.protocol import Arm
from segfed.sites import LabelledCase, Site, Task, load_site, load_task, select_labels
from segfed.sites.check import require_ready
from segfed.study.duplicates import duplicate_warnings
from segfed.study.leaks import proposal_leaks
from segfed.study.settings import StudySettings

VALIDATION_ARM: Arm = "manual"
"""Rounds are chosen on hand-drawn validation labels in every arm: arms differ in training only."""

TEST_ARM: Arm = "manual"
"""Scoring assisted labels against the model that proposed them would be circular."""


@dataclass(frozen=True)
class SiteLabels:
    """The labels of one site that count in a study, by use."""

    site: Site
    train: Mapping[str, tuple[LabelledCase, ...]]
    """Empty for an external site."""

    validation: tuple[LabelledCase, ...]
    test: tuple[LabelledCase, ...]


@dataclass(frozen=True)
class StudyData:
    """Every site of a study, checked."""

    task: Task
    sites: tuple[SiteLabels, ...]
    external: tuple[SiteLabels, ...]
    warnings: tuple[str, ...]

    @property
    def everywhere(self) -> tuple[SiteLabels, ...]:
        """Sites that train, then external ones."""
        return (*self.sites, *self.external)


def check_study(settings: StudySettings) -> StudyData:
    """The sites of a study with the labels that count, after every check that needs no training.

    Raises:
        ConfigError: If the task or a site's settings contradict the study.
        CaseError: If a site lacks cases or labels, an image or label is missing or damaged (every
            problem of every site is listed), or an image is in training and in testing.
    """
    task = load_task(settings.task)
    sites = tuple(_load(folder, task) for folder in settings.sites)
    external = tuple(_load(folder, task) for folder in settings.external_sites)
    _check_roles(settings, sites, external)
    _check_structures(settings, task)
    require_ready((*sites, *external))
    data = StudyData(
        task=task,
        sites=tuple(_labels_of(site, settings, trains=True) for site in sites),
        external=tuple(_labels_of(site, settings, trains=False) for site in external),
        warnings=(),
    )
    _check_separation(data)
    return replace(data, warnings=tuple(_warnings(data)))


def _load(folder: Path, task: Task) -> Site:
    """A site whose task is the study's."""
    site = load_site(folder)
    for field in ("channels", "labels", "structures"):
        found, expected = getattr(site.task, field), getattr(task, field)
        if found != expected:
            raise ConfigError(
                f"Site {site.name} ({folder}) works on task {site.task.name!r} with {field} "
                f"{found}, expected those of the study's task {task.name!r}: {expected}. Use one "
                "task file everywhere, or leave the site out."
            )
    return site


def _check_roles(
    settings: StudySettings, sites: tuple[Site, ...], external: tuple[Site, ...]
) -> None:
    """Names are unique; external sites do not train; the hospitals' policies allow the study."""
    counts = Counter(site.name for site in (*sites, *external))
    problems = [f"{n} sites are called {name!r}" for name, n in counts.items() if n > 1]
    for site in sites:
        policy = site.settings.policy
        if site.settings.external:
            problems.append(f"site {site.name} is external in its site.toml and never trains")
        if not any(fnmatchcase(settings.name, pattern) for pattern in policy.studies):
            problems.append(
                f"site {site.name} admits the studies {', '.join(policy.studies)}, "
                f"not {settings.name!r}"
            )
        n_cases = len(site.split(settings.train_split))
        # A site with none at all is refused later on, with what to do about it.
        if 0 < n_cases < policy.minimum_train_cases:
            problems.append(
                f"site {site.name} trains on {policy.minimum_train_cases} cases or more, found "
                f"{n_cases} in split {settings.train_split!r}"
            )
        problems += _budget_problems(site, settings)
        if "federated" in settings.regimes and settings.budget.rounds < policy.minimum_rounds:
            problems.append(
                f"site {site.name} takes part in {policy.minimum_rounds} rounds or more, found "
                f"budget.rounds = {settings.budget.rounds}"
            )
    if problems:
        raise ConfigError(
            f"Study {settings.name!r} cannot run on these sites: {'; '.join(problems)}. Correct "
            "the study file, or agree on another policy with the site."
        )


def _budget_problems(site: Site, settings: StudySettings) -> Iterator[str]:
    """What a site's agent would refuse about differential privacy, said before anything trains."""
    rules, limit = settings.privacy.differential_privacy, site.settings.policy.maximum_epsilon
    if "federated" not in settings.regimes:
        return
    if rules is None and limit is not None:
        yield f"site {site.name} has a maximum_epsilon, found no privacy.differential_privacy"
    n_patients = len({case.patient_id for case in site.split(settings.train_split)})
    if rules is not None and rules.unit == "patient" and rules.delta * n_patients >= 1:
        yield (
            f"site {site.name} has {n_patients} training patients and so needs a delta below "
            f"1 / {n_patients}, found privacy.differential_privacy.delta = {rules.delta:g}"
        )


def _check_structures(settings: StudySettings, task: Task) -> None:
    """The declared structures exist."""
    unknown = [name for name in settings.evaluation.structures if name not in task.structures]
    if unknown:
        raise ConfigError(
            f"evaluation.structures names {', '.join(unknown)}, which task {task.name!r} does not "
            f"have; expected some of {', '.join(task.structures)}. Correct the study file."
        )


def _labels_of(site: Site, settings: StudySettings, *, trains: bool) -> SiteLabels:
    """The labels that count, all of the test labels drawn by hand."""
    test = select_labels(site, split="test", arm=TEST_ARM)
    circular = [item.case.case_id for item in test if item.record.origin != "manual"]
    if circular:
        raise CaseError(
            f"Site {site.name}: the test labels of {', '.join(circular)} began as a proposal, "
            "expected labels drawn by hand: scoring a model against its own proposals is "
            "circular. Have these cases labelled by a reader who sees no proposal."
        )
    if not trains:
        return SiteLabels(site, {}, (), test)
    train: dict[str, tuple[LabelledCase, ...]] = {
        arm: select_labels(site, split=settings.train_split, arm=arm) for arm in settings.arms
    }
    validation = select_labels(site, split="validation", arm=VALIDATION_ARM, required=False)
    return SiteLabels(site, train, validation, test)


def _check_separation(data: StudyData) -> None:
    """No image is trained on at one site and tested on at any."""
    used = {
        case.image_sha256: f"{item.site.name}/{case.case_id} ({case.split})"
        for item in data.sites
        for case in item.site.cases
        if case.split != "test"
    }
    twice = [
        f"{item.site.name}/{labelled.case.case_id} is {used[labelled.case.image_sha256]}"
        for item in data.everywhere
        for labelled in item.test
        if labelled.case.image_sha256 in used
    ]
    if twice:
        raise CaseError(
            f"Test images that are also trained or validated on: {'; '.join(twice)}; expected "
            "every image in one split of one site. Remove one of the copies."
        )


def _warnings(data: StudyData) -> Iterator[str]:
    """What a reader of the report must know about the labels and cases."""
    for item in data.sites:
        unvalidated = len(item.site.split("validation")) - len(item.validation)
        if not item.validation:
            yield f"{item.site.name} has no labelled validation case: its models' last step counts."
        elif unvalidated:
            yield f"{item.site.name}: validation cases without a manual label: {unvalidated}."
        for arm, labelled in item.train.items():
            yield from proposal_leaks(item.site, labelled, arm=arm)
    yield from duplicate_warnings([item.site for item in data.everywhere])
    for item in data.everywhere:
        if len(item.test) < MINIMUM_CASES:
            yield (
                f"{item.site.name} has {len(item.test)} test cases, fewer than {MINIMUM_CASES}: "
                "shown, but not to be ranked."
            )
