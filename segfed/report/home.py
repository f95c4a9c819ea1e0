"""The report of an evaluation at home: of what hospitals let out, and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from segfed.evaluation import DEFINITIONS
from segfed.evaluation.at_home import SiteSummary, difference_over_sites
from segfed.evaluation.paired import NonInferiority, cases_for_verdict
from segfed.files import write_json, write_text
from segfed.report import score_charts
from segfed.report.page import page_script, page_style, page_template
from segfed.report.text import joined
from segfed.report.values import as_json
from segfed.study.at_home import DIFFERENCE, HomeRow, HomeScores, judge_at_home
from segfed.study.records import METRICS

HOME_REPORT_FILE = "report.json"
HOME_HTML_FILE = "report.html"


def write_home_report(
    folder: Path, sites: Sequence[HomeScores], *, margin: float, structures: Sequence[str] = ()
) -> dict[str, Any]:
    """Write ``report.json`` and ``report.html`` of scores from home; returns the report.

    Args:
        folder: Where to write; made where it is not there.
        sites: What the sites handed over.
        margin: Largest loss of Dice that still counts as no worse, declared beforehand.
        structures: Those declared; every one that a site compares where none is named.

    Raises:
        ConfigError: If the files do not belong together; see `judge_at_home`.
    """
    report = build_home_report(sites, margin=margin, structures=structures)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / HOME_REPORT_FILE, report)
    write_text(folder / HOME_HTML_FILE, render_home_report(report))
    return report


def build_home_report(
    sites: Sequence[HomeScores], *, margin: float, structures: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything that the page says, ready for JSON.

    Raises:
        ConfigError: If the files do not belong together; see `judge_at_home`.
    """
    verdict = judge_at_home(sites, margin=margin, structures=structures)
    return {
        "task": sites[0].task,
        "margin": margin,
        "finding": _finding(verdict),
        "warnings": _warnings(sites),
        "comparison": None if verdict is None else _comparison(sites, verdict),
        "sites": [of.model_dump(mode="json") for of in sites],
        "definitions": {metric: DEFINITIONS[metric] for metric in METRICS},
        "versions": {"segfed": version("segfed"), "scipy": version("scipy")},
    }


def render_home_report(report: Mapping[str, Any]) -> str:
    """The report as one page that opens anywhere, without any request."""
    comparison = report["comparison"]
    charts = {
        name: Markup(score_charts.forest_chart(comparison, name, margin=report["margin"]))
        for name in (comparison["structures"] if comparison else ())
    }
    rows = [row for of in report["sites"] for row in of["rows"]]
    return page_template("home_report.html").render(
        report=report,
        charts=charts,
        structures=list(dict.fromkeys(row["structure"] for row in rows)),
        quantities=list(dict.fromkeys(row["quantity"] for row in rows)),
        rows={
            (of["site"], row["quantity"], row["structure"], row["metric"]): row
            for of in report["sites"]
            for row in of["rows"]
        },
        style=page_style(),
        script=page_script(),
    )


def _finding(verdict: NonInferiority | None) -> dict[str, str]:
    """The first line of the page, and the sentence behind it."""
    if verdict is None:
        return {
            "headline": "No verdict on the label arms",
            "sentence": "No participating site handed over scores of models of both arms.",
        }
    headline = (
        "AI-assisted labels trained as good a model as manual labels"
        if verdict.is_non_inferior
        else "It is not shown that AI-assisted labels train as good a model as manual labels"
    )
    return {"headline": headline, "sentence": verdict.sentence}


def _comparison(sites: Sequence[HomeScores], verdict: NonInferiority) -> dict[str, Any]:
    """The differences over all sites and at each, as a forest chart takes them."""
    return {
        "is_non_inferior": verdict.is_non_inferior,
        "cases_for_verdict": cases_for_verdict(verdict.margin),
        "structures": {
            name: as_json(found)
            | {
                "objection": verdict.reasons.get(name),
                "sites": {
                    of.site: as_json(difference_over_sites({of.site: summary}))
                    for of in sites
                    if not of.external and (summary := _difference_at(of, name))
                },
            }
            for name, found in verdict.structures.items()
        },
    }


def _difference_at(site: HomeScores, structure: str) -> SiteSummary | None:
    """What a site tells of the arms' difference in Dice of one structure."""
    for row in site.rows:
        if (row.quantity, row.structure, row.metric) == (DIFFERENCE, structure, "dice"):
            return _summary(row)
    return None


def _summary(row: HomeRow) -> SiteSummary:
    return SiteSummary(mean=row.mean, sd=row.sd, n=row.n, n_nan=row.n_nan)


def _warnings(sites: Sequence[HomeScores]) -> list[str]:
    """What the figures leave out."""
    found = [
        f"The policy of {of.site} withheld {of.n_withheld} row{'s' if of.n_withheld > 1 else ''} "
        "over too few cases: they are in no figure on this page."
        for of in sites
        if of.n_withheld
    ]
    silent = [
        of.site
        for of in sites
        if not of.external and not any(row.quantity == DIFFERENCE for row in of.rows)
    ]
    if silent:
        found.append(f"{joined(silent)}: no comparison of the arms came from there.")
    if external := [of.site for of in sites if of.external]:
        found.append(
            f"{joined(external)}: took no part in training, and in no verdict or interval here."
        )
    return found
