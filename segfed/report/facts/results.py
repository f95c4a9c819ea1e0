"""What the records say of the question, figures, failures and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from segfed.report.facts.wording import Report, count, labels_of
from segfed.report.text import joined, number, phrase, words
from segfed.study.card import LIMITS

_WORST_CASES = 5


def question(report: Report) -> Iterator[str]:
    """What was compared, as declared before the run."""
    settings, comparison = report["settings"], report["comparison"]
    if comparison:
        yield (
            "Whether models trained on AI-assisted labels lose no more than "
            f"{comparison['margin']:g} Dice against models trained on manual ones, in "
            f"{joined([words(name) for name in comparison['declared_structures']])}."
        )
    seeds = joined([str(seed) for seed in report["seeds"]])
    yield (
        f"Compared: regimes {joined(settings['regimes'])}; label arms "
        f"{joined(settings['arms'])}; training seeds {seeds}."
    )


def finding(report: Report) -> Iterator[str]:
    """The first lines of the report."""
    yield report["finding"]["headline"]
    yield from report["finding"]["sentences"]


def recorded_limits(report: Report) -> Iterator[str]:
    """What limits any claim, as far as it follows from the records."""
    yield LIMITS
    yield from report["warnings"]


def metrics(report: Report) -> Iterator[str]:
    """Definitions."""
    methods = report["methods"]
    yield f"Profile {methods['profile']}."
    for name, definition in methods["definitions"].items():
        yield f"{words(name)}: {definition}"


def intervals(report: Report) -> Iterator[str]:
    """How intervals and verdict come about."""
    yield (
        "Mean of the sites' means; 95 % intervals from "
        f"{report['methods']['n_bootstrap']} bootstrap samples of the cases within each site; "
        f"{count(len(report['seeds']), 'training seed')}."
    )
    if report["comparison"]:
        yield f"Non-inferiority margin: {report['comparison']['margin']:g} Dice."


def results_over_all_sites(report: Report) -> Iterator[str]:
    """Dice of every regime and arm, over the sites and by structure."""
    for regime, arms in report["overall"].items():
        for arm, found in arms.items():
            by_structure = "; ".join(
                f"{words(name)} {phrase(cell)}"
                for name, cell in report["dice"][regime][arm].items()
            )
            yield (
                f"{labels_of(regime, arm)}: Dice {phrase(found)} over "
                f"{count(found['n'], 'case')}; {by_structure}."
            )


def surface_and_distance(report: Report) -> Iterator[str]:
    """The other metrics of the shared model, over the participating sites."""
    if not report["cases"]:
        return
    regime = report["cases"]["regime"]
    for arm, structures in report["surface_dice"][regime].items():
        for name, cell in structures.items():
            distance = report["hd95_mm"][regime][arm][name]
            median = (
                f"{distance['median']:.1f} mm" if distance["median"] is not None else "not finite"
            )
            yield (
                f"{labels_of(regime, arm)}, {words(name)}: surface Dice {phrase(cell)}; median 95 "
                f"% Hausdorff distance {median}."
            )


def results_by_site(report: Report) -> Iterator[str]:
    """Dice at each participating site."""
    yield from _by_site(report, report["sites"])


def results_at_external_sites(report: Report) -> Iterator[str]:
    """Dice at sites that never trained."""
    if not report["external"]:
        yield "No external site took part."
    yield from _by_site(report, report["external"])


def worst_site(report: Report) -> Iterator[str]:
    """Where each model does worst, among sites with enough cases to be ranked."""
    for regime, arms in report["worst_site"].items():
        for arm, site in arms.items():
            if regime != "untrained":
                where = f"worst at {site}" if site else "no site has enough test cases to be ranked"
                yield f"{labels_of(regime, arm)}: {where}."


def missed_structures(report: Report) -> Iterator[str]:
    """Structures that the shared model did not find at all."""
    if not report["cases"]:
        return
    for name, found in report["cases"]["structures"].items():
        if not found["cases"]:
            continue
        for arm in report["overall"][report["cases"]["regime"]]:
            dice = [case["dice"][arm] for case in found["cases"]]
            yield (
                f"{words(name)} missed (Dice 0) in {dice.count(0.0)} of "
                f"{count(len(dice), 'test case')} that have it "
                f"({labels_of(report['cases']['regime'], arm)})."
            )


def worst_cases(report: Report) -> Iterator[str]:
    """The worst test cases without their names, which a card that leaves the site must not tell."""
    if not report["cases"]:
        return
    for rank, case in enumerate(report["cases"]["cases"][:_WORST_CASES], start=1):
        dice = ", ".join(f"{arm} {number(value, 3)}" for arm, value in case["dice"].items())
        yield f"Worst case {rank}, at {case['site']}: Dice {dice}."


def undefined_scores(report: Report) -> Iterator[str]:
    """Scores that are no number."""
    n_nan = sum(
        cell["n_nan"]
        for arms in report["dice"].values()
        for structures in arms.values()
        for cell in structures.values()
    )
    yield (
        f"{count(n_nan, 'Dice value')} of the participating sites undefined, as reference and "
        "prediction are both empty: counted, and left out of the means."
    )


def _by_site(report: Report, sites: Mapping[str, Any]) -> Iterator[str]:
    """One line a site and regime, with the Dice of each arm's model."""
    for name, site in sites.items():
        for regime in report["settings"]["regimes"]:
            if arms := site["overall"].get(regime):
                dice = "; ".join(f"{arm} labels {phrase(cell)}" for arm, cell in arms.items())
                n_cases = next(iter(arms.values()))["n"]
                yield f"{name}, {regime}: Dice {dice}; {count(n_cases, 'case')}."
