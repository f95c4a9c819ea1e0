"""How well readers agree who drew the same cases without seeing each other's labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean

from segfed.evaluation import dice, structure_mask
from segfed.sites import LabelRecord, Site
from segfed.study.preflight import StudyData
from segfed.study.records import AgreementRow
from segfed.volumes import read_label


@dataclass(frozen=True)
class PairDice:
    """The overlap of two readers' labels of one case and structure."""

    case_id: str
    readers: tuple[str, str]
    """The reader who was assigned first, then the other."""

    structure: str
    dice: float
    """NaN if neither drew the structure."""


@dataclass(frozen=True)
class Agreement:
    """The mean overlap over all pairs of labels of a structure."""

    structure: str
    mean_dice: float | None
    """None where no pair drew the structure."""

    n: int
    n_nan: int
    """Pairs in which neither reader drew the structure; they are not in the mean."""


def reader_agreement(site: Site) -> tuple[PairDice, ...]:
    """Dice between readers on the cases that were assigned to several to draw by hand.

    Of each reader it takes the newest label of the manual arm that counts.

    Raises:
        VolumeError: If a stored label is missing or cannot be read.
    """
    return tuple(
        pair
        for case in site.cases
        for first, second in combinations(_independent_labels(site, case.case_id), 2)
        for pair in _compare(site, first, second)
    )


def agreement_rows(data: StudyData) -> Iterator[AgreementRow]:
    """One row for each structure of each case of a study that two readers drew by hand."""
    for item in data.everywhere:
        for pair in reader_agreement(item.site):
            first, second = pair.readers
            yield AgreementRow(
                item.site.name, pair.case_id, first, second, pair.structure, pair.dice
            )


def summarize_agreement(pairs: Sequence[PairDice]) -> tuple[Agreement, ...]:
    """The mean of each structure, in the task's order."""
    by_structure: dict[str, list[float]] = {}
    for pair in pairs:
        by_structure.setdefault(pair.structure, []).append(pair.dice)
    return tuple(
        Agreement(
            structure,
            mean(known) if (known := [v for v in values if not math.isnan(v)]) else None,
            n=len(values),
            n_nan=len(values) - len(known),
        )
        for structure, values in by_structure.items()
    )


def _independent_labels(site: Site, case_id: str) -> list[LabelRecord]:
    """One hand label of each reader to whom the case is assigned, in that order."""
    ledger = site.ledger()
    assigned = [a.reader for a in ledger.assignments(case_id=case_id) if a.arm == "manual"]
    current = (ledger.current(case_id, "manual", reader) for reader in dict.fromkeys(assigned))
    return [record for record in current if record is not None]


def _compare(site: Site, first: LabelRecord, second: LabelRecord) -> Iterator[PairDice]:
    """The pair's Dice for each of the task's structures."""
    paths = (site.ledger().label_path(record.label_sha256) for record in (first, second))
    one, other = (read_label(path).data[0] for path in paths)
    for structure, values in site.task.structures.items():
        yield PairDice(
            first.case_id,
            (first.reader, second.reader),
            structure,
            dice(structure_mask(one, values), structure_mask(other, values)),
        )
