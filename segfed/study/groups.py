"""The model that each group of a study's sites makes: found in the run folder, or trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean

from segfed.errors import ConfigError, PrivacyError
from segfed.evaluation.contribution import Group
from segfed.files import sha256_json
from segfed.study.models import ALL_SITES, NO_ARM, UNTRAINED, ModelId
from segfed.study.preflight import StudyData
from segfed.study.records import ScoreRow
from segfed.study.run import StudyRun
from segfed.study.scoring import score_model, stored_scores
from segfed.study.settings import StudySettings
from segfed.study.training import (
    FoundTraining,
    find_training,
    load_network,
    train_model,
    untrained_model,
    untrained_sha256,
)

_FOLDER = Path("contribution")
_OF = "-of-"
_LONGEST_NAME = 100


@dataclass(frozen=True)
class GroupModel:
    """One group's model of one seed, and what is still to be done for it."""

    group: Group
    run: StudyRun
    """A study of these sites alone, in which the others are only scored on."""

    model: ModelId
    sha256: str | None
    """Of its weights; None while it is not trained."""

    seconds_left: float
    """Of training and predictions, at the pace of the model of all sites."""


def check_groups(run: StudyRun, groups: Iterable[Group]) -> None:
    """Refuse a study of which no group of sites may be trained alone.

    Raises:
        ConfigError: If it has no federated model, compares nothing, chooses updates by Krum, or a
            site's policy does not admit the studies of groups.
        PrivacyError: If single sites are hidden, or every training would spend a budget.
    """
    settings = run.settings
    if "federated" not in settings.regimes or settings.train_split != "train":
        raise ConfigError(
            f"Study {settings.name!r} has the regimes {', '.join(settings.regimes)} on split "
            f"{settings.train_split!r}; expected 'federated' on split 'train', for sites "
            "contribute to a federation whose model is scored. Run such a study, and measure that."
        )
    if settings.federation.uses_krum:
        raise ConfigError(
            f"Study {settings.name!r} aggregates by {settings.federation.aggregation!r}, expected "
            "a rule that groups of few sites can keep. Measure contributions in a copy of the "
            "study with the mean or the median."
        )
    if hidden := _what_hides_sites(settings):
        raise PrivacyError(
            f"Study {settings.name!r} has {hidden}; expected neither secure_aggregation nor "
            "differential_privacy where contributions of single sites are measured. Measure them "
            "in a copy of the study without it, if every site agrees, or leave them out."
        )
    names = {_name(settings, group) for group in groups if 1 < len(group) < len(run.data.sites)}
    refusing = {
        site.site.name: site.site.settings.policy.studies
        for site in run.data.sites
        if not all(_is_admitted(name, site.site.settings.policy.studies) for name in names)
    }
    if refusing:
        said = "; ".join(
            f"{site} admits {', '.join(studies)}" for site, studies in refusing.items()
        )
        raise ConfigError(
            f"The policy of some sites does not admit studies of groups of sites: {said}; expected "
            f"{settings.name + _OF + '*'!r} among policy.studies in site.toml. Ask the hospitals, "
            "or measure contributions without these sites."
        )


def place_groups(
    run: StudyRun, groups: Iterable[Group], *, arm: str, seed: int
) -> tuple[GroupModel, ...]:
    """Where each group's model is, or will be.

    No site at all is the untrained network and all of them are the study's own federated model; one
    is a local model of as many steps, the study's own where it has that. Others are federations.

    Args:
        run: The study, as `open_study` makes it.
        groups: Groups of its sites.
        arm: Labels to train on.
        seed: One of the study's.

    Raises:
        ConfigError: If the study's federated model is not finished, or was made from other inputs
            than those of today.
    """
    everybody = frozenset(site.site.name for site in run.data.sites)
    whole, model = _study_of(run, everybody), ModelId("federated", arm, seed, ALL_SITES)
    start = untrained_sha256(run, model)
    finished = find_training(whole, model, start_sha256=start).finished
    if finished is None:
        raise ConfigError(
            f"The run folder {run.out} has no model '{model}' that was made from the labels, "
            "settings, versions and device of today; expected one, for groups of sites are "
            f"compared with it. Run the study again: segfed study run STUDY.toml --out {run.out}."
        )
    took = stored_scores(whole, model, finished.sha256).seconds
    pace = _Pace(finished.seconds / len(everybody), mean(took) if took else 0.0)
    return tuple(_place(run, group, model, start=start, pace=pace) for group in groups)


def score_group(run: StudyRun, found: GroupModel) -> list[ScoreRow]:
    """The scores of a group's model on the test cases of all sites; trained before, if need be.

    Args:
        run: Whose listener is told.
        found: The model, as `place_groups` finds it.

    Raises:
        TrainingError: If the training fails.
        FederationError: If a federated training fails.
    """
    own = replace(found.run, on_event=run.on_event)
    record = untrained_model(own, ModelId(UNTRAINED, NO_ARM, found.model.seed, ALL_SITES))
    if found.model.regime != UNTRAINED:
        record = train_model(own, found.model, untrained=record)
    network = load_network(own.out, own.plan, record)
    return score_model(own, found.model, [network], weights_sha256=record.sha256)


@dataclass(frozen=True)
class _Pace:
    """What the model of all sites took."""

    seconds_a_site: float
    seconds_a_case: float


def _place(
    run: StudyRun, group: Group, federated: ModelId, *, start: str, pace: _Pace
) -> GroupModel:
    """Where one group's model is, and what is left to do."""
    own, model, sha256 = _study_of(run, group), federated, None
    training = FoundTraining(share_done=1.0)
    if not group:
        model, sha256 = ModelId(UNTRAINED, NO_ARM, federated.seed, ALL_SITES), start
    else:
        if len(group) == 1:
            model = replace(federated, regime="local", train_site=next(iter(group)))
            at_home = replace(own, out=run.out)
            own = at_home if find_training(at_home, model, start_sha256=start).finished else own
        training = find_training(own, model, start_sha256=start)
        sha256 = training.sha256
    to_train = 0.0 if sha256 else (1 - training.share_done) * len(group)
    to_predict = stored_scores(own, model, sha256).n_left
    left = to_train * pace.seconds_a_site + to_predict * pace.seconds_a_case
    return GroupModel(group, own, model, sha256, left)


def _study_of(run: StudyRun, group: Group) -> StudyRun:
    """A study of some sites alone, in a folder of its own; all of them, and none, are the study's.

    It has a name of its own, so that the sites' agents and audit logs tell it from the study.
    """
    names = {site.site.name for site in run.data.sites}
    members = tuple(site for site in run.data.sites if site.site.name in group or not group)
    others = tuple(site for site in run.data.sites if site not in members)
    data = StudyData(run.data.task, members, others, warnings=())
    if group in (frozenset(), names):
        return replace(run, data=data)
    settings = run.settings
    federation = settings.federation.model_copy(
        update={"minimum_sites": min(settings.federation.minimum_sites, max(2, len(group)))}
    )
    changes = {
        "name": _name(settings, group),
        "federation": federation,
        "budget": settings.budget.model_copy(update={"local_steps": None}),
    }
    return replace(
        run,
        settings=settings.model_copy(update=changes),
        data=data,
        out=run.out / _FOLDER / _members(group),
    )


def _name(settings: StudySettings, group: Group) -> str:
    """What the study of a group is called."""
    return f"{settings.name}{_OF}{_members(group)}"


def _members(group: Group) -> str:
    """The sites of a group in one word, which must not be too long for a folder."""
    joined = "+".join(sorted(group))
    if len(joined) <= _LONGEST_NAME:
        return joined
    return f"{len(group)}-sites-{sha256_json(sorted(group))[:12]}"


def _is_admitted(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _what_hides_sites(settings: StudySettings) -> str | None:
    """The protection that contributions of single sites would undo, or spend again."""
    if settings.privacy.secure_aggregation:
        return "secure_aggregation, which hides what a single site adds"
    if settings.privacy.differential_privacy is not None:
        return "differential_privacy, and every group's training would spend the budgets again"
    return None
