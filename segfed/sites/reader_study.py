"""A reader study: who labels which case in which arm, drawn at random and balanced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Literal, get_args

import numpy as np

from segfed.errors import ConfigError, LedgerError
from segfed.files import sha256_bytes
from segfed.protocol import Arm
from segfed.sites.accounts import read_accounts
from segfed.sites.records import Assignment, NewAssignment
from segfed.sites.site import Site

Design = Literal["parallel", "crossover"]


def plan_readings(
    *,
    readers: Sequence[str],
    compared: Sequence[str],
    by_hand: Sequence[str] = (),
    twice_by_hand: Sequence[str] = (),
    design: Design,
    washout_days: float,
    rng: np.random.Generator,
    name: str = "",
) -> tuple[NewAssignment, ...]:
    """Assignments in the order in which each reader shall read.

    Among the compared cases the counts of any two readers, arms, and arms of one reader differ by
    at most one; so do the readers' counts of all cases together. Cases that are read in one period
    come in random order, mixed, so that nobody can tell what a case is for.

    Args:
        readers: Who reads; two at least where cases are read twice.
        compared: Cases whose label strategies are compared. Parallel: each is read once, in one
            arm. Crossover: each is read by one reader in both arms, in two periods.
        by_hand: Cases that one reader draws by hand.
        twice_by_hand: Cases that two readers draw by hand; the one assigned first, at random,
            makes the reference.
        design: Parallel or crossover.
        washout_days: In a crossover, days between a case's first label and its second reading.
        rng: Draws everything.
        name: Recorded with every assignment.
    """
    order = [readers[index] for index in rng.permutation(len(readers))]
    first = _deal(rng.permutation(np.array(compared, dtype=object)).tolist(), order, rng)
    periods = [[NewAssignment(reader, case, arm, design=name) for case, reader, arm in first]]
    # From the other end: whoever got a case more above gets one less here.
    hands = cycle(reversed(order))
    for case in rng.permutation(np.array(by_hand, dtype=object)):
        periods[0].append(NewAssignment(next(hands), case, "manual", design=name))
    for case in rng.permutation(np.array(twice_by_hand, dtype=object)):
        periods[0] += [NewAssignment(r, case, "manual", design=name) for r in islice(hands, 2)]
    if design == "crossover":
        periods.append(
            [
                NewAssignment(reader, case, _OTHER[arm], 2, washout_days, name)
                for case, reader, arm in first
            ]
        )
    return tuple(period[index] for period in periods for index in rng.permutation(len(period)))


def assign_study(
    site: Site,
    *,
    readers: Sequence[str],
    design: Design,
    seed: int,
    washout_days: float = 28.0,
    double_read_test: bool = False,
    add: bool = False,
) -> tuple[Assignment, ...]:
    """Draw and record a site's reader study; the same seed and site give the same study.

    The training cases are compared. Every other case is only ever drawn by hand, for models are
    trained for proposals, chosen and scored on these: by one reader where it has no hand label
    yet, and a test case by two readers where that is asked for.

    Args:
        site: The site; each site is drawn by itself and so balanced in itself.
        readers: Names under which the readers log in; at a site with accounts, theirs.
        design: Parallel or crossover; see `plan_readings`.
        seed: Of the draw.
        washout_days: In a crossover, days between the two readings of a case.
        double_read_test: Let two readers draw every test case.
        add: Assign only the cases that nobody was assigned so far.

    Raises:
        ConfigError: If the readers or the washout make no study, no case is left to assign, or a
            reader was shown a proposal for one of the cases.
        LedgerError: If there are assignments already and ``add`` is not given.
    """
    _check_readers(site, readers, at_least=2 if double_read_test else 1)
    if not washout_days >= 0:
        raise ConfigError(f"Found a washout of {washout_days} days; expected 0 or more. Change it.")
    ledger = site.ledger()
    existing = ledger.assignments()
    if existing and not add:
        raise LedgerError(
            f"Site {site.name} has {len(existing)} assignments; expected none, because drawing "
            "anew would disturb the study that goes on. Assign only new cases with --add."
        )
    taken = {assignment.case_id for assignment in existing}
    free = [case for case in site.cases if case.case_id not in taken]
    twice = [c.case_id for c in free if double_read_test and c.split == "test"]
    planned = plan_readings(
        readers=readers,
        compared=[case.case_id for case in free if case.split == "train"],
        by_hand=[
            case.case_id
            for case in free
            if case.split != "train"
            and case.case_id not in twice
            and ledger.current(case.case_id, "manual") is None
        ],
        twice_by_hand=twice,
        design=design,
        washout_days=washout_days,
        # Sites that share a seed shall not share a pattern.
        rng=np.random.default_rng([seed, int(sha256_bytes(site.name.encode())[:8], 16)]),
        name=f"{design}, seed {seed}",
    )
    if not planned:
        raise ConfigError(
            f"Site {site.name} has no case to assign: {len(taken)} of {len(site.cases)} are "
            "assigned, and the others need no label; expected a new case. Import some first."
        )
    _check_unseen(site, sorted({new.case_id for new in planned}), readers)
    return ledger.assign_all(planned, after=len(existing))


_OTHER: dict[Arm, Arm] = {"manual": "assisted", "assisted": "manual"}


def _deal(
    cases: Sequence[str], readers: Sequence[str], rng: np.random.Generator
) -> list[tuple[str, str, Arm]]:
    """Give each case a reader and an arm, going round so that no count runs ahead.

    The first round through the readers alternates the arms and so does the second, with the arms
    swapped: after any number of cases the readers' and the arms' counts differ by at most one.
    """
    arms: tuple[Arm, ...] = get_args(Arm)
    start = int(rng.integers(2))
    n = len(readers)
    hands = [(readers[i % n], arms[(start + i // n + i % n) % 2]) for i in range(2 * n)]
    return [(case, *hand) for case, hand in zip(cases, cycle(hands), strict=False)]


def _check_readers(site: Site, readers: Sequence[str], *, at_least: int) -> None:
    """Refuse too few readers, one who is named twice or not at all, and one who cannot log in."""
    twice = [name for name, count in Counter(readers).items() if count > 1]
    if twice or not all(readers) or len(readers) < at_least:
        raise ConfigError(
            f"Found the readers {list(readers)}; expected {at_least} or more different names"
            f"{', because a test case is read by two' if at_least > 1 else ''}. Correct --readers."
        )
    accounts = read_accounts(site.folder)
    strangers = [name for name in readers if name not in accounts]
    if accounts and strangers:
        raise ConfigError(
            f"Found the readers {', '.join(strangers)} without an account at site {site.name}; "
            f"expected some of {', '.join(accounts)}, because nobody else can log in. Correct "
            "--readers, or add accounts with `segfed label user add`."
        )


def _check_unseen(site: Site, cases: Sequence[str], readers: Sequence[str]) -> None:
    """Refuse cases that a reader knows with a proposal: drawn by hand they would still show it."""
    ledger = site.ledger()
    assisted = {
        (record.reader, record.case_id)
        for record in ledger.records()
        if record.origin != "manual" and record.reader in readers
    }
    seen = [
        f"{case} ({reader})"
        for case in cases
        for reader in readers
        if (reader, case) in assisted
        or any(event.proposal_sha256 is not None for event in ledger.events(reader, case))
    ]
    if seen:
        raise ConfigError(
            f"Found cases at site {site.name} for which a reader was shown a proposal before: "
            f"{', '.join(seen)}; expected none, because the two arms could not be told apart. Name "
            "other readers with --readers."
        )
