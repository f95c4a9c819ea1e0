"""Test scores that a hospital computes at home: what leaves are sums over its cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from segfed.engine import Model, load_bundle, predict_label
from segfed.errors import CaseError, ConfigError
from segfed.evaluation import average_models, paired_differences, score_case
from segfed.evaluation.at_home import SiteSummary, difference_over_sites, summarize_site
from segfed.evaluation.paired import NonInferiority, judge_non_inferiority
from segfed.protocol import ArmChoice
from segfed.settings import Settings, load_json
from segfed.sites import LabelledCase, Site, select_labels
from segfed.study.preflight import TEST_ARM
from segfed.study.records import METRICS
from segfed.study.registry import check_fits
from segfed.study.scoring import study_profile
from segfed.volumes import read_channels, read_label

DIFFERENCE = "assisted minus manual"
Quantity = Literal["manual", "assisted", "mixed", "assisted minus manual"]
CaseValues = dict[str, float]


class HomeRow(Settings):
    """One quantity over all of a site's test cases."""

    quantity: Quantity
    structure: str
    metric: str
    mean: FiniteFloat
    sd: Annotated[FiniteFloat, Field(ge=0)] | None
    n: PositiveInt
    n_nan: NonNegativeInt

    @model_validator(mode="after")
    def _several_cases_have_a_deviation(self) -> Self:
        if (self.sd is None) != (self.n == 1):
            raise ValueError(
                f"sd is {self.sd} over n = {self.n} cases, expected a number over two or more, and "
                "none over one: take the file as the site's `segfed site score` wrote it"
            )
        return self


class HomeScores(Settings):
    """What a site hands over: no case's score, no name, no image."""

    version: Literal[1] = 1
    site: str
    task: str
    external: bool
    """Whether the site took no part in training."""

    models: dict[ArmChoice, tuple[str, ...]]
    """SHA-256 of the weights of each arm's models, whose scores are averaged within a case."""

    rows: tuple[HomeRow, ...]
    n_withheld: NonNegativeInt
    """Rows left out because fewer cases stand behind them than the site's policy asks for."""


def score_at_home(
    site: Site,
    bundles: Sequence[Path],
    *,
    device: torch.device,
    on_case: Callable[[int, int], None] | None = None,
) -> HomeScores:
    """A site's scores of models on its own hand-drawn test labels, as its policy lets them leave.

    Args:
        site: The site, as loaded.
        bundles: Folders of the models; the seeds of an arm are averaged.
        device: Where to predict.
        on_case: Called after each case with the number done and the number in all.

    Raises:
        CaseError: If a model has seen a test image, or the test labels are missing or no hand's.
        ConfigError: If a model is given twice, or was made for another task.
        WeightsError: If a bundle is damaged.
    """
    models = [load_bundle(bundle) for bundle in bundles]
    for model, bundle in zip(models, bundles, strict=True):
        check_fits(model.plan, site, source=str(bundle))
    cases = select_labels(site, split="test", arm=TEST_ARM)
    _check_fair(site, models, cases)
    values: dict[tuple[str, str], dict[str, CaseValues]] = {}
    for done, labelled in enumerate(cases, start=1):
        for model in models:
            for (structure, metric), value in _scores(site, model, labelled, device=device).items():
                by_model = values.setdefault((structure, metric), {})
                by_model.setdefault(model.sha256, {})[labelled.case.case_id] = value
        if on_case:
            on_case(done, len(cases))
    arms: dict[ArmChoice, tuple[str, ...]] = {}
    for model in models:
        arms[model.lineage.arm] = (*arms.get(model.lineage.arm, ()), model.sha256)
    fewest = site.settings.policy.minimum_metric_cases
    rows = list(_rows(values, arms))
    return HomeScores(
        site=site.name,
        task=site.task.name,
        external=site.settings.external,
        models=arms,
        rows=tuple(row for row in rows if row.n >= fewest),
        n_withheld=sum(row.n < fewest for row in rows),
    )


def read_home_scores(path: Path) -> HomeScores:
    """What a site handed over.

    Raises:
        ConfigError: If the file is missing or no such file.
    """
    return load_json(path, HomeScores, kind="file of a site's scores")


def judge_at_home(
    sites: Sequence[HomeScores], *, margin: float, structures: Sequence[str] = ()
) -> NonInferiority | None:
    """The verdict on the label arms over the sites that took part in training.

    Args:
        sites: What the sites handed over.
        margin: Largest loss of Dice that still counts as no worse, declared beforehand.
        structures: Those declared; every one that a site compares where none is named.

    Returns:
        The verdict; None where no site compares the arms.

    Raises:
        ConfigError: If the files are of other models or tasks, two are of one site, a declared
            structure is in none, or the margin is not positive.
    """
    _check_alike(sites)
    if not margin > 0:
        raise ConfigError(
            f"Found a margin of {margin:g}, expected a positive loss of Dice. Give the largest one "
            "that still counts as no worse, as it was declared, say 0.02."
        )
    found: dict[str, dict[str, SiteSummary]] = {}
    for of in sites:
        for row in of.rows:
            if not of.external and (row.quantity, row.metric) == (DIFFERENCE, "dice"):
                summary = SiteSummary(row.mean, row.sd, row.n, row.n_nan)
                found.setdefault(row.structure, {})[of.site] = summary
    if not found:
        return None
    if missing := [name for name in structures if name not in found]:
        raise ConfigError(
            f"No site compares {', '.join(missing)}; the sites compare {', '.join(found)}. "
            "Correct the names, or ask the sites whether their policy withholds them."
        )
    names = structures or list(found)
    return judge_non_inferiority(
        {name: difference_over_sites(found[name]) for name in names}, margin=margin
    )


def _scores(
    site: Site, model: Model, labelled: LabelledCase, *, device: torch.device
) -> dict[tuple[str, str], float]:
    """One case's scores by structure and metric."""
    image = read_channels(labelled.case.channels)
    predicted = predict_label([model.network], model.plan, image, device=device)
    scores = score_case(
        read_label(labelled.label_path),
        predicted,
        case_id=labelled.case.case_id,
        profile=study_profile("generic", site.task),
    )
    return {(s.structure, s.metric): float(s.value) for s in scores if s.metric in METRICS}


def _rows(
    values: Mapping[tuple[str, str], Mapping[str, CaseValues]],
    arms: Mapping[ArmChoice, tuple[str, ...]],
) -> Iterator[HomeRow]:
    """A row for each arm and for their difference, without those that have no finite value."""
    for (structure, metric), by_model in values.items():
        by_arm = {
            arm: average_models({sha256: {"here": by_model[sha256]} for sha256 in hashes})
            for arm, hashes in arms.items()
        }
        quantities: dict[Quantity, CaseValues] = {arm: of["here"] for arm, of in by_arm.items()}
        if "manual" in by_arm and "assisted" in by_arm:
            differences = paired_differences(by_arm["manual"], by_arm["assisted"])
            quantities["assisted minus manual"] = differences["here"]
        for quantity, cases in quantities.items():
            if summary := summarize_site(list(cases.values())):
                yield HomeRow(
                    quantity=quantity,
                    structure=structure,
                    metric=metric,
                    # Finer ones serve nobody and could tell more.
                    mean=round(summary.mean, 6),
                    sd=None if summary.sd is None else round(summary.sd, 6),
                    n=summary.n,
                    n_nan=summary.n_nan,
                )


def _check_fair(site: Site, models: Sequence[Model], cases: Sequence[LabelledCase]) -> None:
    """Refuse what would flatter a model."""
    circular = [item.case.case_id for item in cases if item.record.origin != "manual"]
    if circular:
        raise CaseError(
            f"Site {site.name}: the test labels of {', '.join(circular)} began as a proposal, "
            "expected labels drawn by hand. Have them drawn by a reader who sees no proposal."
        )
    for model in models:
        seen = [c.case.case_id for c in cases if model.lineage.saw(c.case.image_sha256)]
        if seen:
            raise CaseError(
                f"Site {site.name}: model {model.sha256[:12]} was trained on or chosen by the "
                f"images of its test cases {', '.join(seen)}; expected cases that it never saw. "
                "Score another model, or take these cases out of the test split."
            )
    hashes = [model.sha256 for model in models]
    if len(set(hashes)) < len(hashes):
        raise ConfigError("A model is given twice, expected each once. Leave one out.")


def _check_alike(sites: Sequence[HomeScores]) -> None:
    """Refuse to put together what does not belong together."""
    # Each site may have named the models in another order.
    models = [{arm: sorted(hashes) for arm, hashes in of.models.items()} for of in sites]
    for noun, found in (("models", models), ("tasks", [of.task for of in sites])):
        if any(of_site != found[0] for of_site in found):
            raise ConfigError(
                f"The scores of {', '.join(of.site for of in sites)} are of different {noun}, "
                "expected the same ones at every site. Ask the sites for new ones."
            )
    names = [of.site for of in sites]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"Several files are of one site among {', '.join(names)}, expected one of each. Leave "
            "one out."
        )
