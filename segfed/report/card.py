"""The model card and protocol sheets: each item filled from records, or shown as missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from segfed.report.facts import FACTS
from segfed.report.facts.wording import Report
from segfed.report.text import words
from segfed.settings import Settings, load_toml

SHEETS = ("model_card", "claim_2024", "gmlp_2021")
"""Files in ``checklists``, in their order on the page."""

Status = Literal["recorded", "in part", "by hand", "missing"]


class Item(Settings):
    """What a sheet asks for."""

    asks: str
    section: str = ""
    number: str = ""
    facts: tuple[str, ...] = ()
    """Names of the facts that answer it; see `FACTS`."""

    by_hand: str = ""
    """What no record of a run can tell; empty where the facts answer the whole item."""

    entry: str = ""
    """Where ``[card]`` of the study file may say it; see `CardSettings`."""


class Sheet(Settings):
    """A checklist."""

    title: str
    source: str
    """Who asks for it."""

    items: tuple[Item, ...]


def read_sheet(name: str) -> Sheet:
    """One of the sheets that come with segfed.

    Raises:
        ConfigError: If there is no such sheet.
    """
    path = Path(__file__).parent / "checklists" / f"{name}.toml"
    return load_toml(path, Sheet, kind="checklist")


def build_card(report: Report) -> list[dict[str, Any]]:
    """The filled sheets as plain data, from the report's other parts alone."""
    known = {name: tuple(fact(report)) for name, fact in FACTS.items()}
    stated = report["settings"]["card"]
    return [fill_sheet(read_sheet(name), known, stated=stated) for name in SHEETS]


def fill_sheet(
    sheet: Sheet, known: Mapping[str, Sequence[str]], *, stated: Mapping[str, str]
) -> dict[str, Any]:
    """A sheet with what is known of each item, and what is to be filled in by hand.

    Args:
        sheet: What is asked.
        known: Sentences of each fact by its name; none where the run has no record.
        stated: What a person wrote into ``[card]`` of the study file, by the name of the entry.
    """
    items = [_fill_item(item, known, stated.get(item.entry, "").strip()) for item in sheet.items]
    counts = Counter(item["status"] for item in items)
    return {
        "title": sheet.title,
        "source": sheet.source,
        "counts": {status: counts[status] for status in get_args(Status)},
        "items": items,
    }


def _fill_item(item: Item, known: Mapping[str, Sequence[str]], stated: str) -> dict[str, Any]:
    """An item's sentences, a person's own words, and the names of what is missing."""
    found = [sentence for name in item.facts for sentence in known[name]]
    missing = [words(name) for name in item.facts if not known[name]]
    missing += [item.by_hand] if item.by_hand and not stated else []
    return {
        "section": item.section,
        "number": item.number,
        "asks": item.asks,
        "status": _status(found, missing, stated),
        "recorded": found,
        "stated_by_hand": stated,
        "not_recorded": missing,
    }


def _status(found: Sequence[str], missing: Sequence[str], stated: str) -> Status:
    """How far an item is filled."""
    if missing:
        return "in part" if found or stated else "missing"
    return "recorded" if found else "by hand"
