"""Two models, or two label strategies, compared on the same cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from segfed.evaluation.difference import ADDED_FAILURES, MINIMUM_PAIRED
from segfed.evaluation.statistics import (
    CaseMeans,
    Estimate,
    SiteValues,
    check_same_cases,
    finite_values,
)

DEFAULT_MARGIN = 0.02
"""Largest loss of Dice that still counts as no worse."""

FAILURE_LOSS = 0.3
"""What a case loses in Dice where only the new model fails, in reckoning with unseen failures."""

UNSEEN = 0.01
"""Largest chance that none of the cases shows failures which cost the whole margin."""


@dataclass(frozen=True)
class NonInferiority:
    """Whether something is no worse than its rival by more than a margin declared beforehand.

    ``structures`` holds the difference (new minus old) of each declared structure, ``passes``
    whether it keeps the margin and ``reasons`` why not, where it does not; the verdict is positive
    only if all of them do.
    """

    margin: float
    structures: Mapping[str, Estimate]
    passes: Mapping[str, bool]
    reasons: Mapping[str, str]
    is_non_inferior: bool
    sentence: str


def paired_differences(old: SiteValues, new: SiteValues) -> CaseMeans:
    """New minus old score of each case of each site.

    Raises:
        CaseError: If the two were not scored on the same cases; the message names some.
    """
    check_same_cases(old, new)
    return {
        site: {case_id: _difference(old[site][case_id], value) for case_id, value in cases.items()}
        for site, cases in new.items()
    }


def judge_non_inferiority(
    differences: Mapping[str, Estimate],
    *,
    margin: float = DEFAULT_MARGIN,
    new: str = "assisted",
    old: str = "manual",
    level: float = 0.95,
) -> NonInferiority:
    """Verdict on declared structures, from the intervals of their differences.

    A structure passes if the lower end of its interval lies above minus the margin: a one-sided
    test at half of 1 - level. Because *all* structures must pass, no correction for their number
    is due. Where the new model alone fails, rarely and badly, that test errs too often from few
    cases, so that a structure passes only if there are `cases_for_verdict`, and if it still keeps
    the margin with a few more cases as bad as the worst (`low_with_failures`).

    Args:
        differences: New minus old of each declared structure, for a score where more is better.
        margin: Largest loss that still counts as no worse, declared before the run.
        new: What is judged, in words.
        old: What it is compared with, in words.
        level: Coverage of the intervals, for the sentence.

    Raises:
        ValueError: If no structure is declared or the margin is not positive.
    """
    if not differences:
        raise ValueError(
            "no structure is declared for the non-inferiority test; declare at least one"
        )
    if not margin > 0:
        raise ValueError(f"margin must be positive, got {margin}; declare the largest loss allowed")
    found = {name: _objection(of, margin=margin) for name, of in differences.items()}
    reasons = {name: reason for name, reason in found.items() if reason}
    is_non_inferior = not reasons
    details = "; ".join(_describe(name, differences[name], level) for name in differences)
    if is_non_inferior:
        verdict = f"Models trained on {new} labels are no worse than on {old} labels"
        scope = " in every declared structure"
    else:
        verdict = f"It is not shown that models trained on {new} labels are no worse than on {old}"
        alike = {
            reason: [n for n in reasons if reasons[n] == reason] for reason in reasons.values()
        }
        scope = ": " + "; ".join(f"{', '.join(of)} {reason}" for reason, of in alike.items())
    return NonInferiority(
        margin=margin,
        structures=dict(differences),
        passes={name: name not in reasons for name in differences},
        reasons=reasons,
        is_non_inferior=is_non_inferior,
        sentence=f"{verdict} by more than {margin:g}{scope} ({new} minus {old}: {details}).",
    )


def cases_for_verdict(margin: float) -> int:
    """Fewest cases for a verdict: failures that cost the margin are then unlikely to go unseen.

    If each failure loses ``FAILURE_LOSS``, the margin is lost where margin / ``FAILURE_LOSS`` of
    the cases fail; so many cases show none of them with a chance of ``UNSEEN`` at most.
    """
    rate = margin / FAILURE_LOSS
    fewest = math.ceil(math.log(UNSEEN) / math.log1p(-rate)) if rate < 1 else 0
    return max(fewest, MINIMUM_PAIRED)


def wilcoxon_holm(differences: Mapping[str, SiteValues]) -> dict[str, float | None]:
    """Wilcoxon signed-rank p value of each structure, corrected by Holm's method.

    Descriptive only: cases of one site resemble each other, which the test ignores.

    Args:
        differences: New minus old score of each case of each site, for each structure.

    Returns:
        Corrected two-sided p values; None for a structure without a finite difference.
    """
    raw: dict[str, float] = {}
    for name, values in differences.items():
        sites = finite_values(values)
        if sites:
            pooled = np.concatenate(list(sites.values()))
            # Without any difference there is nothing to rank, and no evidence of one.
            raw[name] = float(stats.wilcoxon(pooled).pvalue) if pooled.any() else 1.0
    corrected = multipletests(list(raw.values()), method="holm")[1] if raw else []
    by_name = dict(zip(raw, map(float, corrected), strict=True))
    return {name: by_name.get(name) for name in differences}


def _difference(old: float, new: float) -> float:
    """New minus old; NaN where both are infinite, because neither is then nearer."""
    return float(np.nan) if np.isinf(old) and np.isinf(new) else new - old


def _objection(estimate: Estimate, *, margin: float) -> str:
    """What the structure does that shows no kept margin, in words; empty if it keeps it."""
    if estimate.ci_low is None or estimate.low_with_failures is None:
        return "cannot be judged without an interval"
    if estimate.ci_low <= -margin:
        return f"may lose more than {margin:g} Dice"
    if estimate.n < (fewest := cases_for_verdict(margin)):
        return f"cannot be judged from {estimate.n} cases (it takes {fewest})"
    if estimate.low_with_failures <= -margin:
        return (
            f"may lose more than {margin:g} Dice if {ADDED_FAILURES} more cases fail like the "
            "worst one"
        )
    return ""


def _describe(name: str, estimate: Estimate, level: float) -> str:
    """One structure's difference in words."""
    if estimate.mean is None:
        return f"{name} unknown, {estimate.reason}"
    if estimate.ci_low is None or estimate.ci_high is None:
        return f"{name} {estimate.mean:+.3f} without an interval, {estimate.reason}"
    return (
        f"{name} {estimate.mean:+.3f} [{estimate.ci_low:+.3f}, {estimate.ci_high:+.3f}], "
        f"{level:.0%} interval over {estimate.n} cases"
    )
