"""What each site adds to the federated model of a finished study: groups of sites, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Literal, TypeVar

from segfed.errors import CaseError, ConfigError
from segfed.evaluation.contribution import (
    Group,
    Order,
    contributions,
    draw_orders,
    needed_groups,
)
from segfed.evaluation.statistics import SiteValues
from segfed.files import write_text
from segfed.protocol import ArmChoice
from segfed.settings import Settings, load_json
from segfed.study.events import OnEvent, ignore_event
from segfed.study.groups import GroupModel, check_groups, place_groups, score_group
from segfed.study.models import arm_choice
from segfed.study.parallel import for_each
from segfed.study.records import REFERENCE_VOLUME, STUDY_FILE, ScoreRow, read_study
from segfed.study.run import LaunchFederation, StudyRun
from segfed.study.runner import open_study
from segfed.study.settings import StudySettings

CONTRIBUTION_FILE = "contribution.json"
MOST_SITES = 6
"""Sites of which all groups are trained: 64 groups, of which 56 train."""

Choice = TypeVar("Choice", int, str)


class Interval(Settings):
    """A difference of Dice with its 95 % interval; without one where the cases are too few."""

    mean: float
    low: float | None
    high: float | None


class SiteContribution(Settings):
    """What one site adds; see `segfed.evaluation.contribution.Contribution`."""

    site: str
    own: Interval
    others: Interval
    shapley: Interval


class GroupDice(Settings):
    """What the model of some sites reaches."""

    sites: tuple[str, ...]
    dice: float
    """Mean over seeds and over the sites of the study, also those that are not in the group."""


class ContributionRecord(Settings):
    """``contribution.json``: what each site of a study was found to add."""

    schema_version: Literal[1] = 1
    study: str
    arm: ArmChoice
    seeds: tuple[int, ...]
    models: tuple[str, ...]
    """SHA-256 of the weights of the study's federated model of each seed."""

    n_orders: int | None
    """Orders of sites drawn for the Shapley values; None where they are exact, over all groups."""

    n_bootstrap: int
    n_cases: dict[str, int]
    """Test cases of each site that count: those whose reference has a structure."""

    sites: tuple[SiteContribution, ...]
    groups: tuple[GroupDice, ...]


@dataclass(frozen=True)
class ContributionPlan:
    """What measuring the contributions of a study's sites takes."""

    run: StudyRun
    arm: ArmChoice
    seeds: tuple[int, ...]
    orders: tuple[Order, ...] | None
    models: tuple[GroupModel, ...]
    """The models of every group, seed by seed."""

    @property
    def n_predictions(self) -> int:
        """Test cases of all models together."""
        return len(self.models) * sum(len(site.test) for site in self.run.data.sites)

    @property
    def n_to_train(self) -> int:
        """Models that are not there yet."""
        return sum(model.sha256 is None for model in self.models)

    @property
    def seconds_left(self) -> float:
        """About how long the rest takes."""
        return sum(model.seconds_left for model in self.models) / self.run.workers


def plan_contributions(
    run_folder: Path,
    *,
    launch_federation: LaunchFederation,
    workers: int | None = None,
    arm: str | None = None,
    seeds: Sequence[int] = (),
    n_orders: int | None = None,
) -> ContributionPlan:
    """What `measure_contributions` would train; trains nothing.

    Args:
        run_folder: Of a finished study with a federated model; its sites must be on this machine.
        launch_federation: Runs one federated training.
        workers: Models to train or score at once; see `default_workers`.
        arm: Whose models; the study's first unless given.
        seeds: Some of the study's; all unless given.
        n_orders: Orders of sites to draw in place of all groups.

    Raises:
        ConfigError: If study, seeds or sites do not allow it, the sites are too many, or the
            federated model would be another today.
        CaseError: If a site lacks cases or labels.
        PrivacyError: If the study hides single sites, or a budget would be spent.
    """
    settings = _read_settings(run_folder)
    chosen_arm = arm_choice(_one_of(arm or settings.arms[0], settings.arms, "arm"))
    named = dict.fromkeys(_one_of(seed, settings.seeds, "seed") for seed in seeds)
    chosen_seeds = tuple(named) or settings.seeds
    if n_orders is None and len(settings.sites) > MOST_SITES:
        raise ConfigError(
            f"Found {len(settings.sites)} sites, which form {2 ** len(settings.sites)} groups; "
            f"expected at most {MOST_SITES} sites for exact Shapley values. Draw some orders "
            "of sites with --orders, say 10: each costs about as many trainings as there are sites."
        )
    run = open_study(settings, out=run_folder, launch_federation=launch_federation, workers=workers)
    names = [site.site.name for site in run.data.sites]
    orders = None if n_orders is None else draw_orders(names, n=n_orders, seed=0)
    groups = needed_groups(names, orders)
    check_groups(run, groups)
    models = [
        model
        for seed in chosen_seeds
        for model in place_groups(run, groups, arm=chosen_arm, seed=seed)
    ]
    return ContributionPlan(run, chosen_arm, chosen_seeds, orders, tuple(models))


def measure_contributions(
    plan: ContributionPlan, *, n_bootstrap: int = 1000, on_event: OnEvent = ignore_event
) -> ContributionRecord:
    """Train and score the model of every group; writes and returns ``contribution.json``.

    Groups are trained anew, and no round is taken apart: rounds tell neither a copy from the site
    that it copies nor what the study would have been without a site (docs/robustness.md). What is
    there from before, made from the same inputs, is not made again.

    Raises:
        CaseError: If a site has no test case with a structure.
        TrainingError: If a training fails.
        FederationError: If a federated training fails.
    """
    rows = for_each(replace(plan.run, on_event=on_event), score_group, plan.models)
    scored: list[dict[Group, SiteValues]] = [{} for _ in plan.seeds]
    for trained, of_model in zip(plan.models, rows, strict=True):
        scored[plan.seeds.index(trained.model.seed)][trained.group] = case_dice(of_model)
    found = contributions(scored, orders=plan.orders, seed=0, n_bootstrap=n_bootstrap)
    first = next(iter(scored[0].values()))
    record = ContributionRecord(
        study=plan.run.settings.name,
        arm=plan.arm,
        seeds=plan.seeds,
        models=tuple(of.sha256 for of in plan.models if of.sha256 and of.group == frozenset(found)),
        n_orders=None if plan.orders is None else len(plan.orders),
        n_bootstrap=n_bootstrap,
        n_cases={site: len(cases) for site, cases in sorted(first.items())},
        sites=tuple(
            SiteContribution.model_validate({"site": site, **asdict(one)})
            for site, one in found.items()
        ),
        groups=tuple(
            GroupDice(
                sites=tuple(sorted(group)),
                dice=mean(_site_mean(of_seed[group]) for of_seed in scored),
            )
            for group in scored[0]
        ),
    )
    write_text(plan.run.out / CONTRIBUTION_FILE, record.model_dump_json(indent=2) + "\n")
    return record


def read_contributions(run_folder: Path) -> ContributionRecord | None:
    """What was measured before; None where nobody did.

    Raises:
        ConfigError: If the file is damaged.
    """
    path = run_folder / CONTRIBUTION_FILE
    kind = "record of contributions"
    return load_json(path, ContributionRecord, kind=kind) if path.exists() else None


def case_dice(rows: Sequence[ScoreRow]) -> dict[str, dict[str, float]]:
    """For each site, the Dice of each case: the mean over the structures that its reference has.

    That leaves the same cases and structures for every model, and no undefined value; what a model
    marks of a structure that is not there does not count.

    Raises:
        CaseError: If no case of a site has a structure.
    """
    volumes = {
        (row.test_site, row.case, row.structure): row.value
        for row in rows
        if row.metric == REFERENCE_VOLUME
    }
    found: dict[str, dict[str, list[float]]] = {row.test_site: {} for row in rows}
    for row in rows:
        if row.metric == "dice" and volumes[row.test_site, row.case, row.structure] > 0:
            found[row.test_site].setdefault(row.case, []).append(row.value)
    if empty := [site for site, cases in found.items() if not cases]:
        raise CaseError(
            f"No test case of {', '.join(sorted(empty))} has a structure in its reference; "
            "expected one at every site, by which models are compared. Label some, or leave the "
            "site out of the study."
        )
    return {
        site: {case: mean(values) for case, values in cases.items()}
        for site, cases in found.items()
    }


def _site_mean(values: SiteValues) -> float:
    """The mean of the sites' means."""
    return mean(mean(cases.values()) for cases in values.values())


def _one_of(value: Choice, choices: Sequence[Choice], kind: str) -> Choice:
    """What was asked for, if the study has it."""
    if value not in choices:
        raise ConfigError(
            f"Found {kind} {value}, expected one of the study: {', '.join(map(str, choices))}. "
            f"Name one of these, or run the study with that {kind} first."
        )
    return value


def _read_settings(run_folder: Path) -> StudySettings:
    """The settings of a study whose sites are all on this machine."""
    if (run_folder / "state.json").exists() and not (run_folder / STUDY_FILE).exists():
        raise ConfigError(
            f"{run_folder} is the run of a federation of hospitals, whose cases are not here; "
            "expected a study run on this machine (segfed study run), whose groups of sites can be "
            "trained. Measure contributions in such a study, as a simulation before the real one."
        )
    settings = read_study(run_folder).settings
    if away := [str(folder) for folder in settings.sites if not folder.is_dir()]:
        raise ConfigError(
            f"The site folders {', '.join(away)} are not on this machine; expected those of all "
            "sites, whose groups are trained. Bring them back, or measure where they are."
        )
    return settings
