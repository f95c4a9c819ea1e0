"""The files of a report, written beside the records from which they are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from segfed.errors import SegfedError
from segfed.files import write_json, write_text
from segfed.report.build import REPORT_FILE, build_report
from segfed.report.page import render_card, render_html
from segfed.report.pictures import Picture, grey_window, make_pictures, shown_models
from segfed.report.values import Scores
from segfed.report.viewer import start_viewer_folder, write_case
from segfed.study.records import SCORES_FILE, StudyRecord, read_scores, read_study
from segfed.volumes import Volume

HTML_FILE = "report.html"
CARD_FILE = "model_card.html"

WORST_SHOWN = 20
"""Worst test cases, over all sites, that the page's viewer shows beside the pictured ones."""


def write_report(run_folder: Path) -> dict[str, Any]:
    """Write ``report.json``, ``report.html`` and ``model_card.html``; returns the report.

    Beside them goes a folder with volumes for the page's viewer: of the pictured cases, and of the
    ``WORST_SHOWN`` worst ones.

    Raises:
        ConfigError: If the folder holds no finished study.
    """
    report = build_report(run_folder)
    scores = Scores(read_scores(run_folder / SCORES_FILE))
    study = read_study(run_folder)
    viewer = _ViewerFolder(run_folder, study)
    pictures = make_pictures(run_folder, study, scores, on_case=viewer.keep_pictured)
    unopened = viewer.keep_worst(report, scores)
    pictures = replace(pictures, left_out=(*pictures.left_out, *unopened))
    write_json(run_folder / REPORT_FILE, report)
    page = render_html(report, pictures=pictures, viewable=viewer.names)
    write_text(run_folder / HTML_FILE, page)
    write_text(run_folder / CARD_FILE, render_card(report))
    return report


class _ViewerFolder:
    """The folder beside the page: each case is written once, whoever asks for it."""

    def __init__(self, run_folder: Path, study: StudyRecord) -> None:
        self._run_folder, self._folder = run_folder, start_viewer_folder(run_folder)
        self._study = study
        self.names: dict[tuple[str, str], str] = {}

    def keep_pictured(self, picture: Picture, image: Volume, labels: Mapping[str, Volume]) -> None:
        """A case that a picture shows; see `OnCase`."""
        self._keep((picture.site, picture.case), image, labels)

    def keep_worst(self, report: Mapping[str, Any], scores: Scores) -> list[str]:
        """The worst cases of sites on this machine; returns a line for each that is not shown."""
        models = shown_models(self._run_folder, scores)
        sites = {site.name: site for site in self._study.sites if site.folder.exists()}
        cases = report["cases"]["cases"] if report["cases"] else []
        unopened: list[str] = []
        for row in cases[:WORST_SHOWN]:
            key = (row["site"], row["case"])
            if models is None or key in self.names or row["site"] not in sites:
                continue
            try:
                self._keep(key, *models.read_case(self._study, sites[row["site"]], row["case"]))
            except SegfedError as error:
                unopened.append(f"{row['site']}/{row['case']} cannot be opened: {error}")
        return unopened

    def _keep(self, key: tuple[str, str], image: Volume, labels: Mapping[str, Volume]) -> None:
        name = f"case-{len(self.names)}"
        window = self._study.task.window_hu or grey_window(image.data)
        write_case(self._folder / f"{name}.js", image, labels, window=window)
        self.names[key] = name
