"""Preflight of a site: everything that would stop a training, found before one starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from segfed.errors import CaseError, LedgerError, SegfedError
from segfed.sites.cases import Case, naming_case
from segfed.sites.images import hash_image
from segfed.sites.labels import checked_label
from segfed.sites.site import Site
from segfed.volumes import read_channels


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a site."""

    case_id: str
    """Empty where the site as a whole is meant."""

    file: Path
    message: str


def check_site(
    site: Site, *, on_case: Callable[[int, int], None] | None = None
) -> tuple[Problem, ...]:
    """Everything that is wrong with a site; empty where it is ready.

    Reads every image, and every label and proposal that a record names: that each can be read,
    that images are what was imported, that channels share a grid and labels lie on it, that label
    values are the task's, and that the ledger's chain is unbroken.

    Args:
        site: The site, as loaded.
        on_case: Called after each case with the number done and the number in all.
    """
    problems = list(_check_ledger(site))
    if not site.cases:
        problems.append(
            Problem("", site.folder, f"Site {site.name} has no case. Import some first.")
        )
    for done, case in enumerate(site.cases, start=1):
        problems += _check_case(site, case)
        if on_case:
            on_case(done, len(site.cases))
    return tuple(problems)


def require_ready(sites: Iterable[Site]) -> None:
    """Refuse sites with problems, all of them in one message.

    Raises:
        CaseError: Listing every problem of every site.
    """
    problems = [(site, problem) for site in sites for problem in check_site(site)]
    if problems:
        lines = "\n".join(f"  {site.name}: {problem.message}" for site, problem in problems)
        raise CaseError(
            f"{len(problems)} problem(s) must be solved before anything is trained:\n{lines}"
        )


def _check_case(site: Site, case: Case) -> Iterator[Problem]:
    """What is wrong with one case's images, labels and proposals."""
    display_path = case.channels[site.task.display_channel]
    try:
        with naming_case(case.case_id):
            read_channels(case.channels)
            found = hash_image(case.channels.values())
    except SegfedError as error:
        yield Problem(case.case_id, display_path, str(error))
        return
    if found != case.image_sha256:
        yield Problem(
            case.case_id,
            display_path,
            f"Case {case.case_id}: {display_path} has image hash {found[:12]}, expected "
            f"{case.image_sha256[:12]} as imported. Restore the image from its source.",
        )
    ledger = site.ledger()
    records = ledger.records(case.case_id)
    # What readers changed is measured against the proposals when everything is trained.
    named = (sha256 for r in records for sha256 in (r.label_sha256, r.proposal_sha256))
    for sha256 in dict.fromkeys(filter(None, named)):
        path = ledger.label_path(sha256)
        try:
            with naming_case(case.case_id):
                checked_label(site, case, path)
        except SegfedError as error:
            yield Problem(case.case_id, path, str(error))


def _check_ledger(site: Site) -> Iterator[Problem]:
    """What is wrong with the chain of records; the first break stands for what follows it."""
    ledger = site.ledger()
    try:
        ledger.verify()
    except LedgerError as error:
        yield Problem("", ledger.path, str(error))
