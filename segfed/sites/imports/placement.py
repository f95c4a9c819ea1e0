"""Which case goes to which site and split: by a table, by a rule, or by both."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from segfed.errors import CaseError, ConfigError
from segfed.protocol import Split
from segfed.sites.splits import assign_splits

TABLE_COLUMNS = ("case_id", "site", "split", "patient_id")


@dataclass(frozen=True)
class Placement:
    """Where one case goes."""

    case_id: str
    patient_id: str
    site: str
    split: Split


def place_cases(
    patients: Mapping[str, str],
    *,
    rows: Sequence[Mapping[str, str]] = (),
    sites: Mapping[str, int | None] | None = None,
    seed: int = 0,
) -> tuple[Placement, ...]:
    """Where each case goes; what the table leaves open is decided by rule.

    Args:
        patients: Patient of every case that there is, as the source knows it.
        rows: Lines of a table (`read_rows`): only these cases are placed. A column ``site``,
            ``split`` or ``patient_id`` decides; without one the rule does.
        sites: The rule for sites: how many cases each gets, drawn at random by patient; ``None``
            is every case that is left. Needed where the table has no column ``site``.
        seed: Seed of the rules for sites and splits (`assign_splits`).

    Returns:
        One placement a case, site by site.

    Raises:
        ConfigError: If neither table nor rule names sites, if both do, if there are fewer cases
            than the rule wants, or a split does not exist.
        CaseError: If the table names a case that is not there, or puts one patient's cases into
            two splits.
    """
    table = {row["case_id"]: row for row in rows}
    _check_known(table, patients)
    chosen = {
        case_id: table.get(case_id, {}).get("patient_id") or patients[case_id]
        for case_id in (table or patients)
    }
    site_of = _sites_by_table(table, sites) or _sites_by_rule(chosen, sites, seed=seed)
    placements = []
    for site in dict.fromkeys(site_of.values()):
        members = {case_id: chosen[case_id] for case_id in chosen if site_of.get(case_id) == site}
        split_of = _splits_by_table(table) or assign_splits(members, seed=seed)
        placements += [
            Placement(case_id, patient, site, split_of[case_id])
            for case_id, patient in members.items()
        ]
    _check_patients(placements)
    return tuple(placements)


def read_rows(path: Path, *, columns: Iterable[str] = TABLE_COLUMNS) -> list[dict[str, str]]:
    """The lines of a CSV table about cases.

    Args:
        path: The table; it must have a column ``case_id``, with each name once.
        columns: Every column that it may have: a misspelt one would silently leave its
            decision to the rule.

    Raises:
        ConfigError: If the file is missing or empty, a column is unknown, or a case is twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            rows, found = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"No readable table at {path}: {error}; expected a CSV file. Check the path."
        ) from error
    known = list(columns)
    problems = [_explain_column(name, known) for name in found if name not in known]
    if "case_id" not in found or not rows:
        problems.append(f"found columns {found} and {len(rows)} lines, expected a case_id in each")
    if any(None in row or None in row.values() for row in rows):
        problems.append("some lines have more or fewer values than the first line has columns")
    names = [str(row["case_id"]) for row in rows] if "case_id" in found else []
    if twice := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"cases {', '.join(twice)} stand in more than one line")
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}. Correct the table.")
    return rows


def _explain_column(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown column {name!r}" + (
        f", did you mean {close[0]!r}?" if close else f", expected {', '.join(known)}"
    )


def _check_known(table: Iterable[str], patients: Mapping[str, str]) -> None:
    """Refuse a table that names cases which are not there."""
    if absent := [case_id for case_id in table if case_id not in patients]:
        raise CaseError(
            f"The table names {len(absent)} case(s) that are not there: {', '.join(absent)}. "
            f"Found {len(patients)} cases, such as {next(iter(patients), 'none')}. Correct the "
            "table, or add the cases."
        )


def _check_patients(placements: Iterable[Placement]) -> None:
    """Refuse one patient in two splits, also where they are splits of two sites."""
    first_of: dict[str, Placement] = {}
    for placement in placements:
        first = first_of.setdefault(placement.patient_id, placement)
        if first.split != placement.split:
            raise CaseError(
                f"Patient {placement.patient_id} is in split {first.split} (case {first.case_id}) "
                f"and in split {placement.split} (case {placement.case_id}); expected one split a "
                "patient, or test figures would be about patients that were trained on. Correct "
                "the table."
            )


def _sites_by_table(
    table: Mapping[str, Mapping[str, str]], sites: Mapping[str, int | None] | None
) -> dict[str, str]:
    """Site of every case as the table says; empty where it has no such column."""
    if not any("site" in row for row in table.values()):
        return {}
    if sites is not None:
        raise ConfigError(
            "Both the table's column 'site' and a rule say how cases are divided among sites; "
            "expected one of them. Leave out the rule, or remove the column."
        )
    return {case_id: row["site"] for case_id, row in table.items()}


def _sites_by_rule(
    patients: Mapping[str, str], sites: Mapping[str, int | None] | None, *, seed: int
) -> dict[str, str]:
    """Site of every case that the rule places, whole patients at a time."""
    if not sites:
        raise ConfigError(
            "Nothing says to which site a case belongs. Give --sites north if all belong to one, "
            "sizes such as --sites a=100,b=50, or a table with the columns case_id and site."
        )
    wanted = sum(size or 0 for size in sites.values())
    if wanted > len(patients):
        raise ConfigError(
            f"The sites {dict(sites)} want {wanted} cases, but there are {len(patients)}. Ask "
            "for fewer, or add cases."
        )
    cases_of: dict[str, list[str]] = {}
    for case_id, patient in patients.items():
        cases_of.setdefault(patient, []).append(case_id)
    shuffled = np.random.default_rng(seed).permutation(sorted(cases_of)).tolist()
    site_of: dict[str, str] = {}
    for site, size in sites.items():
        n_placed = 0
        while shuffled and (size is None or n_placed < size):
            members = cases_of[shuffled.pop()]
            site_of |= dict.fromkeys(members, site)
            n_placed += len(members)
    return site_of


def _splits_by_table(table: Mapping[str, Mapping[str, str]]) -> dict[str, Split]:
    """Split of every case as the table says; empty where it has no such column."""
    splits: dict[str, Split] = {split: split for split in get_args(Split)}
    named = {case_id: row["split"] for case_id, row in table.items() if "split" in row}
    if wrong := {case_id: split for case_id, split in named.items() if split not in splits}:
        raise ConfigError(
            f"The table puts cases into unknown splits: {wrong}; expected {', '.join(splits)}. "
            "Correct the table."
        )
    return {case_id: splits[split] for case_id, split in named.items()}
