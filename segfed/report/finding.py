"""What a run found, in sentences that are computed and never typed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from segfed.evaluation import MINIMUM_SEEDS
from segfed.report.anchoring import anchoring_warning
from segfed.report.text import joined, phrase, words
from segfed.report.values import MEAN_OF_STRUCTURES
from segfed.study.models import ModelId
from segfed.study.records import SiteRecord, StudyRecord

_DATA = {
    "synthetic": "Synthetic images and simulated readers: the figures show that the loop works, "
    "and say nothing about patients.",
    "rendered": "Images rendered from real masks: shapes are those of patients, intensities are "
    "computed. The figures say nothing about real scanners.",
    "real": "Real images, as the sites declare them.",
}


def data_statement(sites: Sequence[SiteRecord]) -> dict[str, Any]:
    """Which kinds of data a report rests on, and the sentence that says so."""
    kinds = sorted({site.data for site in sites})
    if len(kinds) == 1:
        return {"kinds": kinds, "statement": _DATA[kinds[0]]}
    parts = [
        f"{', '.join(site.name for site in sites if site.data == kind)}: {_DATA[kind]}"
        for kind in kinds
    ]
    return {"kinds": kinds, "statement": " ".join(parts)}


def describe_finding(report: dict[str, Any]) -> dict[str, Any]:
    """The headline and the few sentences after it."""
    sentences = [*_arm_sentences(report), *_regime_sentences(report), *_external_sentence(report)]
    return {"headline": sentences[0], "sentences": sentences[1:]}


def report_warnings(report: dict[str, Any], study: StudyRecord) -> Iterator[str]:
    """What limits the figures, beside what the run itself warned of."""
    if study.not_run:
        names = [str(ModelId(**model.model_dump())) for model in study.not_run]
        yield (
            f"{len(names)} of the study's models were not run, and no figure covers them: "
            f"{'; '.join(names)}. `segfed study run` without --only runs them."
        )
    comparison = report["comparison"]
    n_seeds = comparison["regimes"][comparison["primary_regime"]]["n_seeds"] if comparison else 0
    if comparison and n_seeds < MINIMUM_SEEDS:
        yield (
            f"{n_seeds} training seed{'s' if n_seeds > 1 else ''}: the comparison speaks of these "
            f"models; a claim about the label strategy needs at least {MINIMUM_SEEDS} seeds."
        )
    if report["comparison"] and report["comparison"]["design"] != "crossover":
        yield (
            f"The arms were labelled in a {report['comparison']['design']} design: their training "
            "cases are not the same."
        )
    if report["comparison"]:
        yield from _one_sided_warning(report["comparison"])
    if seen := report["separation"]["in_both"]:
        yield (
            f"{len(seen)} of the test images are among those that models learned from or were "
            f"chosen by, and flatter the figures: {', '.join(image[:12] for image in seen)}."
        )
    yield from anchoring_warning(report["anchoring"])
    for run in report["federation"]:
        for dropped in run["dropped"]:
            yield (
                f"Round {dropped['round']} of the federation ({run['arm']} labels, seed "
                f"{run['seed']}) went without {dropped['site']}: {dropped['reason']}."
            )
        for suspect in run["suspects"]:
            yield (
                f"In {suspect['rounds']} of {run['rounds']} rounds of the federation ({run['arm']} "
                f"labels, seed {run['seed']}) the update of {suspect['site']} looked unlike the "
                f"others: {suspect['reason']}. Ask the site; it is a sign and no proof."
            )
        for late in run["forgetting"]:
            yield _late_site(late, run)
    if report["contributions"] and report["contributions"]["is_outdated"]:
        yield (
            "What each site adds was measured for other federated models than those of this run, "
            "and is left out. `segfed study contribution` measures it anew."
        )
    for metric in ("dice", "surface_dice"):
        for regime, arms in report[metric].items():
            for arm, structures in arms.items():
                for name, found in structures.items():
                    if found["n"] == 0:
                        yield f"{metric} of {name} ({regime}, {arm}) has no finite value."


def _late_site(late: dict[str, Any], run: dict[str, Any]) -> str:
    """What the coming of a site changed for those that were there."""
    n = late["rounds_compared"]
    interval = (
        ""
        if late["change_low"] is None
        else f" (95 % interval over these sites {late['change_low']:+.3f} to "
        f"{late['change_high']:+.3f})"
    )
    trend = (
        ""
        if late["trend"] is None
        else f"; the rounds before had brought {late['trend']:+.3f} without it"
    )
    return (
        f"{late['site']} joined in round {late['joined_in_round']} of the federation "
        f"({run['arm']} labels, seed {run['seed']}). Validation Dice of "
        f"{joined(list(late['changes']))} changed by {late['change']:+.3f}{interval} from the "
        f"{n} round{'s' if n > 1 else ''} before to the {n} from then on{trend}."
    )


def _one_sided_warning(comparison: dict[str, Any]) -> Iterator[str]:
    """What was left out because only one arm's model has a Dice for it."""
    regime = comparison["primary_regime"]
    n = comparison["regimes"][regime]["structures"][MEAN_OF_STRUCTURES]["n_one_sided"]
    if n:
        yield (
            f"{n} structure{'s' if n > 1 else ''} of test cases, empty in the reference, "
            f"{'are' if n > 1 else 'is'} left out of the comparison: only one arm's {regime} model "
            "predicted something there, which gives a Dice of 0 to it and none to the other."
        )


def _arm_sentences(report: dict[str, Any]) -> Iterator[str]:
    """The verdict on the label arms."""
    comparison = report["comparison"]
    if comparison is None:
        return
    regime = comparison["primary_regime"]
    found = comparison["regimes"][regime]
    sites = found["structures"][MEAN_OF_STRUCTURES]["sites"]
    judged = "new_models" if found["estimand"] == "new_models" else "structures"
    difference = found[judged][MEAN_OF_STRUCTURES]
    margin = comparison["margin"]
    if difference["mean"] is None:
        yield "Manual and assisted labels cannot be compared: no test case has a finite Dice."
        return
    if found["is_non_inferior"]:
        verdict = (
            f"AI-assisted labels trained as good a {regime} model as manual labels: no declared "
            f"structure lost more than {margin:g} Dice"
        )
    else:
        failing: dict[str, list[str]] = {}
        for name in comparison["declared_structures"]:
            if objection := found["structures"][name]["objection"]:
                failing.setdefault(objection, []).append(words(name))
        verdict = (
            "It is not shown that AI-assisted labels train as good a model as manual labels: "
            + "; ".join(f"{joined(names)} {objection}" for objection, names in failing.items())
        )
    yield f"{verdict}."
    seeds = f" and {found['n_seeds']} training seeds" if judged == "new_models" else ""
    yield (
        f"Assisted minus manual, {regime}: {phrase(difference, signed=True)} Dice, mean over "
        f"structures, 95 % interval over {difference['n']} test cases of {len(sites)} sites"
        f"{seeds}."
    )


def _regime_sentences(report: dict[str, Any]) -> Iterator[str]:
    """The federated model against its rivals, on the labels of the first arm."""
    overall = report["overall"]
    if "federated" not in overall:
        for regime, arms in overall.items():
            if regime != "untrained":
                found = next(iter(arms.values()))
                yield f"The {regime} model reaches a mean Dice of {phrase(found)}."
        return
    arm = next(iter(overall["federated"]))
    untrained = next(iter(overall["untrained"].values()))["mean"]
    baseline = "" if untrained is None else f"; the untrained network, {untrained:.3f}"
    yield (
        f"The federated model ({arm} labels) reaches a mean Dice of "
        f"{phrase(overall['federated'][arm])}{baseline}."
    )
    against = report["federated_minus"][arm]
    phrases = [
        f"{_RIVALS[rival]} by {phrase(found[MEAN_OF_STRUCTURES], signed=True)}"
        for rival, found in against.items()
    ]
    if phrases:
        yield f"It differs from {joined(phrases)} Dice."
    ensemble = against.get("ensemble", {}).get(MEAN_OF_STRUCTURES)
    if ensemble and ensemble["mean"] is not None and ensemble["mean"] <= 0:
        yield "The federation does not beat the ensemble of local models, which needs no rounds."


_RIVALS = {
    "local": "the average local model",
    "ensemble": "the ensemble of local models",
    "pooled": "the model trained on pooled data",
}


def _external_sentence(report: dict[str, Any]) -> Iterator[str]:
    """How the federated model does where nobody trained."""
    found = report["external_overall"].get("federated")
    if found and report["external"]:
        arm, estimate = next(iter(found.items()))
        yield (
            f"At {joined(list(report['external']))}, which took no part in training, it reaches "
            f"{phrase(estimate)} ({arm} labels)."
        )
