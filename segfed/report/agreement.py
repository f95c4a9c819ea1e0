"""How far readers agree who drew the same cases by hand: the ceiling for any model."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from segfed.report.text import joined, phrase, words
from segfed.report.values import SCORE_RANGE, estimate
from segfed.study.records import AgreementRow


def summarize_agreement(rows: Sequence[AgreementRow], *, n_bootstrap: int) -> dict[str, Any] | None:
    """Dice between readers of each structure, with an interval for new cases of these sites.

    Args:
        rows: Of ``agreement.csv``; the pairs of a case that more than two drew are averaged.
        n_bootstrap: Samples behind each interval.

    Returns:
        The estimates and a sentence; None where no case was drawn twice.
    """
    if not rows:
        return None
    pairs: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        cases = pairs.setdefault(row.structure, {}).setdefault(row.site, {})
        cases.setdefault(row.case, []).append(row.dice)
    structures = {
        name: estimate(
            {
                site: {case: fmean(values) for case, values in cases.items()}
                for site, cases in by_site.items()
            },
            n_bootstrap=n_bootstrap,
            within=SCORE_RANGE,
        )
        for name, by_site in pairs.items()
    }
    n_cases = len({(row.site, row.case) for row in rows})
    n_readers = len({(row.site, r) for row in rows for r in (row.first_reader, row.second_reader)})
    figures = joined([f"{words(name)} {phrase(found)}" for name, found in structures.items()])
    return {
        "structures": structures,
        "n_cases": n_cases,
        "n_readers": n_readers,
        "sentence": (
            f"{n_readers} readers who drew the same {n_cases} "
            f"case{'' if n_cases == 1 else 's'} by hand agree with a Dice of {figures}: no model "
            "can be shown to be better than that."
        ),
    }
