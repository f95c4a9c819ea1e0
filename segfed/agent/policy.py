"""What a hospital's settings allow; checked before any label or image is read."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from segfed.agent.refusal import RefusedError
from segfed.engine import Plan, read_plan
from segfed.protocol import AgentErrorCode, Manifest, RoundRequest
from segfed.sites import Site


def check_request(site: Site, manifest: Manifest, request: RoundRequest) -> Plan:
    """Refuse a job that the study or the hospital does not allow; returns the study's plan.

    Args:
        site: The site as loaded: its settings, task and list of cases.
        manifest: The study that the hospital approved.
        request: The job.

    Raises:
        RefusedError: With the code that the server is told and the reason that it is not.
        ConfigError: If the manifest's plan breaks a rule.
    """
    if request.manifest_sha256 != manifest.sha256:
        raise RefusedError(
            AgentErrorCode.UNKNOWN_STUDY,
            f"A job for the manifest {request.manifest_sha256[:12]} came in, but this site "
            f"approved {manifest.sha256[:12]}. Approve the study, or submit the approved one.",
        )
    if not 1 <= request.round <= manifest.rounds:
        raise RefusedError(
            AgentErrorCode.UNKNOWN_ROUND,
            f"A job for round {request.round} came in, expected 1 to {manifest.rounds}. Submit a "
            "study with more rounds.",
        )
    return check_study(site, manifest)


def check_study(site: Site, manifest: Manifest) -> Plan:
    """Refuse a study that the hospital's settings do not allow; returns the study's plan.

    Raises:
        RefusedError: With the code that the server is told and the reason that it is not.
        ConfigError: If the manifest's plan breaks a rule.
    """
    forbidden = "; ".join(_forbidden(site, manifest))
    if forbidden:
        raise RefusedError(
            AgentErrorCode.STUDY_NOT_ALLOWED,
            f"Site {site.name} does not take part in study {manifest.study!r}: {forbidden}. "
            f"Change the policy in {site.folder / 'site.toml'}, or leave the site out.",
        )
    plan = read_plan(manifest.plan)
    _check_task(site, manifest, plan)
    return plan


def check_case_count(site: Site, n_cases: int) -> None:
    """Refuse to train on fewer cases than the hospital's policy asks for.

    Raises:
        RefusedError: With both numbers, for the site's log.
    """
    fewest = site.settings.policy.minimum_train_cases
    if n_cases < fewest:
        raise RefusedError(
            AgentErrorCode.TOO_FEW_CASES,
            f"Site {site.name} has {n_cases} training cases, but its policy asks for at least "
            f"{fewest}. Label more cases, or lower minimum_train_cases in "
            f"{site.folder / 'site.toml'}.",
        )


def _forbidden(site: Site, manifest: Manifest) -> Iterator[str]:
    """One phrase for each rule of the hospital that a study breaks."""
    policy = site.settings.policy
    if site.settings.external:
        yield "it is an external site, which never trains"
    if not any(fnmatchcase(manifest.study, pattern) for pattern in policy.studies):
        yield f"its policy names {', '.join(policy.studies) or 'no study'}"
    if manifest.rounds < policy.minimum_rounds:
        yield f"{manifest.rounds} rounds are fewer than the {policy.minimum_rounds} it asks for"
    private = manifest.privacy.differential_privacy
    if private is None and policy.maximum_epsilon is not None:
        yield "its policy has a maximum_epsilon, and the study states no differential_privacy"
    if private is not None and private.noise_multiplier is None:
        yield "its differential_privacy states no noise_multiplier"


def _check_task(site: Site, manifest: Manifest, plan: Plan) -> None:
    """Refuse a plan that reads the site's images or labels differently from the site's task."""
    task = site.task
    differing = [
        f"{name} {found!r} instead of {expected!r}"
        for name, found, expected in (
            ("manifest task", manifest.task, task.name),
            ("plan task", plan.task, task.name),
            ("modality", plan.modality, task.modality),
            ("channels", plan.channels, task.channels),
            ("labels", plan.labels, task.labels),
            ("structures", plan.structures, task.structures),
            ("window_hu", plan.window_hu, task.window_hu),
        )
        if found != expected
    ]
    if differing:
        raise RefusedError(
            AgentErrorCode.TASK_MISMATCH,
            f"Study {manifest.study!r} does not fit the task of site {site.name}: "
            f"{'; '.join(differing)}. Use one task file at every site.",
        )
