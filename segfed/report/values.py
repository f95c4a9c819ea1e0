"""The scores of a run, looked up by regime, arm, structure and metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from segfed.evaluation import (
    Estimate,
    SiteValues,
    average_models,
    paired_differences,
    these_sites,
)
from segfed.study.records import ScoreRow

MEAN_OF_STRUCTURES = "mean_of_structures"
"""Stands for the mean over a case's structures, wherever a structure's name is asked for."""

_Member = tuple[int, str]
"""Seed and training site: which of the models of one regime and arm."""

SCORE_RANGE = (0.0, 1.0)
"""Of Dice and surface Dice."""

DISTANCE_RANGE_MM = (0.0, math.inf)


@dataclass(frozen=True)
class Comparable:
    """Dice of several models on the same cases, averaged over the same structures of each."""

    models: tuple[Mapping[str, Mapping[str, float]], ...]
    """In the order asked for; NaN where no structure is defined for all of them."""

    n_one_sided: int
    """Structures of cases left out because they are defined for some of the models only."""

    @property
    def differences(self) -> dict[str, dict[str, float]]:
        """Second minus first model."""
        return paired_differences(self.models[0], self.models[1])


class Scores:
    """Every score of a run. Values are averaged over seeds, and for ``local`` over all models."""

    def __init__(self, rows: Iterable[ScoreRow]) -> None:
        self._members: dict[
            tuple[str, str, str, str], dict[_Member, dict[str, dict[str, float]]]
        ] = {}
        self.external: set[str] = set()
        participating: dict[str, None] = {}
        for row in rows:
            if row.external:
                self.external.add(row.test_site)
            else:
                participating[row.test_site] = None
            members = self._members.setdefault((row.regime, row.arm, row.structure, row.metric), {})
            tests = members.setdefault((row.seed, row.train_site), {})
            tests.setdefault(row.test_site, {})[row.case] = row.value
        self.test_sites = tuple(participating)

    def regimes(self) -> dict[str, tuple[str, ...]]:
        """The arms of each regime that was scored, in the order of the records."""
        found: dict[str, dict[str, None]] = {}
        for regime, arm, _, _ in self._members:
            found.setdefault(regime, {})[arm] = None
        return {regime: tuple(arms) for regime, arms in found.items()}

    def structures(self) -> tuple[str, ...]:
        """The structures that were scored, in the order of the records."""
        return tuple(dict.fromkeys(structure for _, _, structure, _ in self._members))

    def train_sites(self, regime: str, arm: str) -> tuple[str, ...]:
        """The sites whose models a regime has; ``all`` for a model of every site."""
        structure = self.structures()[0]
        members = self._members.get((regime, arm, structure, "dice"), {})
        return tuple(dict.fromkeys(train_site for _, train_site in members))

    def values(
        self,
        regime: str,
        arm: str,
        structure: str,
        metric: str,
        *,
        train_site: str | None = None,
        sites: Iterable[str] | None = None,
    ) -> dict[str, dict[str, float]]:
        """Score of each test case of each site, averaged over the models that made it.

        Args:
            regime: How the models were trained.
            arm: On which labels.
            structure: Its name, or ``MEAN_OF_STRUCTURES`` for the mean of a case's structures.
            metric: Its name in ``scores.csv``.
            train_site: Only the local models of this site.
            sites: Only these test sites; the participating ones by default.
        """
        return average_models(
            self.by_seed(regime, arm, structure, metric, train_site=train_site, sites=sites)
        )

    def by_seed(
        self,
        regime: str,
        arm: str,
        structure: str,
        metric: str,
        *,
        train_site: str | None = None,
        sites: Iterable[str] | None = None,
    ) -> dict[int, dict[str, dict[str, float]]]:
        """The same as ``values`` for each seed, averaged over a regime's models."""
        if structure == MEAN_OF_STRUCTURES:
            parts = [
                self.by_seed(regime, arm, name, metric, train_site=train_site, sites=sites)
                for name in self.structures()
            ]
            return {seed: _average(part[seed] for part in parts) for seed in parts[0]}
        members = self._members.get((regime, arm, structure, metric), {})
        return {
            seed: _average(
                self._chosen(tests, sites)
                for (other, member_site), tests in members.items()
                if other == seed and train_site in (None, member_site)
            )
            for seed in sorted({seed for seed, _ in members})
        }

    def comparable(
        self, *models: tuple[str, str], structure: str, seed: int | None = None
    ) -> Comparable:
        """Dice of several regimes and arms, fit to be subtracted from each other.

        A structure that is empty in the reference is undefined for a model that predicts nothing
        and 0 for one that predicts something. Each model's own mean over structures would then be
        one over other structures, so that a structure counts only where it is defined for all.

        Args:
            models: Regime and arm of each.
            structure: Its name, or ``MEAN_OF_STRUCTURES``.
            seed: Only the models of this seed; by default the average over the seeds that all of
                them have.
        """
        names = self.structures() if structure == MEAN_OF_STRUCTURES else (structure,)
        seeds = self.shared_seeds(*models) if seed is None else (seed,)
        by_structure = [[self._dice(model, name, seeds) for model in models] for name in names]
        shared = [_defined_for_all(values) for values in by_structure]
        return Comparable(
            models=tuple(_average(values) for values in zip(*shared, strict=True)),
            n_one_sided=sum(map(_count_one_sided, by_structure)),
        )

    def shared_seeds(self, *models: tuple[str, str]) -> tuple[int, ...]:
        """The seeds that every one of some regimes and arms has completely, in order.

        A study may be run in parts: a seed of the local models counts once every site has its own.
        """
        complete = [self._complete_seeds(*model) for model in models]
        return tuple(sorted(set.intersection(*complete)))

    def _complete_seeds(self, regime: str, arm: str) -> set[int]:
        """The seeds of which no model is missing."""
        train_sites: dict[int, set[str]] = {}
        for seed, site in self._members.get((regime, arm, self.structures()[0], "dice"), {}):
            train_sites.setdefault(seed, set()).add(site)
        return {
            seed
            for seed, sites in train_sites.items()
            if regime != "local" or sites >= set(self.test_sites)
        }

    def _dice(
        self, model: tuple[str, str], structure: str, seeds: Sequence[int]
    ) -> dict[str, dict[str, float]]:
        """Dice of one regime and arm, averaged over some seeds."""
        found = self.by_seed(*model, structure, "dice")
        return average_models({seed: found[seed] for seed in seeds})

    def _chosen(
        self, tests: dict[str, dict[str, float]], sites: Iterable[str] | None
    ) -> dict[str, dict[str, float]]:
        """The wanted test sites among those of one model."""
        wanted = set(tests) - self.external if sites is None else set(sites)
        return {site: cases for site, cases in tests.items() if site in wanted}


def _average(values: Iterable[SiteValues]) -> dict[str, dict[str, float]]:
    """Mean of each case over several models or structures, by the rule for seeds."""
    return average_models(dict(enumerate(values)))


def _defined_for_all(models: Sequence[SiteValues]) -> list[dict[str, dict[str, float]]]:
    """The models' values, undefined for all where they are for one."""
    return [
        {
            site: {
                case: math.nan if any(math.isnan(other[site][case]) for other in models) else value
                for case, value in cases.items()
            }
            for site, cases in model.items()
        }
        for model in models
    ]


def _count_one_sided(models: Sequence[SiteValues]) -> int:
    """Number of cases that are defined for some of the models only."""
    return sum(
        len({math.isnan(model[site][case]) for model in models}) > 1
        for site, cases in models[0].items()
        for case in cases
    )


def estimate(
    values: SiteValues,
    *,
    n_bootstrap: int,
    within: tuple[float, float] | None = None,
    with_median: bool = False,
) -> dict[str, Any]:
    """Mean, interval and counts for ``report.json``.

    Args:
        values: Score of each case of each site.
        n_bootstrap: Samples behind the interval.
        within: The range that no mean can leave, at which the interval is cut.
        with_median: Add the median over all cases, infinite ones included (``None`` if it is
            infinite itself), and the number of infinite ones.
    """
    result = these_sites(values, seed=0, n_bootstrap=n_bootstrap)
    low, high = result.ci_low, result.ci_high
    if within and low is not None and high is not None:
        result = replace(result, ci_low=max(low, within[0]), ci_high=min(high, within[1]))
    return as_json(result) | (_median(values) if with_median else {})


def as_json(result: Estimate) -> dict[str, Any]:
    """An estimate as plain data; what not every estimate has, only where it is there."""
    return {
        key: value
        for key, value in asdict(result).items()
        if key not in ("n_infinite", "reason", "low_with_failures") or value not in (0, "", None)
    }


def json_number(value: float) -> float | None:
    """A number that JSON can hold; NaN is a missing one."""
    return None if math.isnan(value) else value


def _median(values: SiteValues) -> dict[str, Any]:
    """Median and number of infinite values over all cases."""
    known = [v for cases in values.values() for v in cases.values() if not math.isnan(v)]
    middle = median(known) if known else math.inf
    return {
        "median": middle if math.isfinite(middle) else None,
        "n_infinite": sum(math.isinf(value) for value in known),
    }
