"""The pages: the report and the model card, each one file that opens anywhere by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup

from segfed.report import case_charts, run_charts, score_charts, text
from segfed.report.pictures import Picture, Pictures
from segfed.report.values import MEAN_OF_STRUCTURES
from segfed.report.viewer import VIEWER_FOLDER

_METRIC_NAMES = {
    "dice": "Dice",
    "surface_dice": "Surface Dice",
    "hd95_mm": "95 % Hausdorff distance (mm)",
}


_WORST_LISTED = 10
"""Test cases in the table that is open from the start."""


def render_html(
    report: Mapping[str, Any],
    *,
    pictures: Pictures | None = None,
    viewable: Mapping[tuple[str, str], str] | None = None,
) -> str:
    """The whole report as HTML: styles, charts and pictures inside, no request.

    Without scripts it is complete but for saving tables as CSV and scrolling through volumes.

    Args:
        report: What ``build_report`` made; nothing else is printed.
        pictures: Overlays of test cases, as ``make_pictures`` draws them.
        viewable: Names, by site and case, of the volumes that lie in ``VIEWER_FOLDER``.
    """
    by_site: dict[str, list[Picture]] = {}
    pictures = pictures or Pictures()
    for picture in pictures.drawn:
        by_site.setdefault(picture.site, []).append(picture)
    return page_template("report.html").render(
        report=report,
        style=page_style(),
        script=page_script(),
        viewer_folder=VIEWER_FOLDER,
        viewable=viewable or {},
        charts=_charts(report),
        slopes={
            arm: Markup(chart)
            for arm in report["dice"].get("local", {})
            if (chart := score_charts.slope_chart(report, arm))
        },
        pictures=by_site,
        left_out=pictures.left_out,
        regimes=[regime for regime in score_charts.REGIMES if regime in report["dice"]],
        structures=list(report["task"]["structures"]),
        metric_names=_METRIC_NAMES,
        mean=MEAN_OF_STRUCTURES,
        missing=text.MISSING,
        n_worst=_WORST_LISTED,
    )


def render_card(report: Mapping[str, Any]) -> str:
    """The model card and its sheets as HTML, complete in itself like the report."""
    return page_template("model_card.html").render(report=report, style=page_style())


def page_style() -> Markup:
    """What every page looks like."""
    return Markup(_resource("style.css"))


def page_script() -> Markup:
    """Saves tables as CSV, and scrolls through volumes where a page has a viewer."""
    return Markup(_resource("viewer.js"))


def page_template(name: str) -> Template:
    """A page that escapes what it prints, and refuses to print what is not there."""
    environment = Environment(
        loader=PackageLoader("segfed.report", "page"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": text.number,
        "phrase": text.phrase,
        "words": text.words,
        "prose": text.prose,
        "size": text.size,
        "duration": text.duration,
        "joined": text.joined,
    }
    return environment.get_template(name)


def _charts(report: Mapping[str, Any]) -> dict[str, list[Markup]]:
    """The SVG of every chart that the run has figures for, by the section it belongs to."""
    comparison = report["comparison"]
    structures = list(report["task"]["structures"])
    primary = comparison["regimes"][comparison["primary_regime"]] if comparison else None
    cases = report["cases"]["structures"] if report["cases"] else {}
    found: dict[str, list[str | None]] = {
        "regimes": [score_charts.regime_chart(report, structure) for structure in structures],
        "forest": [
            score_charts.forest_chart(primary, structure, margin=comparison["margin"])
            for structure in structures
            if primary
        ],
        "sizes": [case_charts.size_chart(of, name) for name, of in cases.items()],
        "volumes": [case_charts.agreement_chart(of, name) for name, of in cases.items()],
        "convergence": [run_charts.convergence_chart(report["federation"])],
        "changed": [
            run_charts.strip_chart(
                _by_site(report, "changed_fractions"),
                title="Changed share of proposal and label, by site",
                digits=2,
            )
        ],
        "seconds": [
            run_charts.strip_chart(
                _by_site(report, "active_seconds"),
                title="Seconds of work for each label, by site",
                digits=0,
            )
        ],
    }
    return {
        section: [Markup(chart) for chart in drawn if chart] for section, drawn in found.items()
    }


def _by_site(report: Mapping[str, Any], key: str) -> dict[str, dict[str, list[float]]]:
    """One kind of the effort's values by site and arm."""
    arms = report["effort"]["arms"]
    return {
        site: {arm: found["sites"][site][key] for arm, found in arms.items()}
        for site in report["sites"]
        if all(site in found["sites"] for found in arms.values())
    }


def _resource(name: str) -> str:
    """A file of the page's own folder."""
    return (Path(__file__).parent / "page" / name).read_text(encoding="utf-8")
