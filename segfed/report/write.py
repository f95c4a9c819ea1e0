"""The files of a report, written beside the records from which they are computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segfed.files import write_json, write_text
from segfed.report.build import REPORT_FILE, build_report
from segfed.report.page import render_card, render_html
from segfed.report.pictures import Picture, grey_window, make_pictures
from segfed.report.values import Scores
from segfed.report.viewer import start_viewer_folder, write_case
from segfed.study.records import SCORES_FILE, read_scores, read_study
from segfed.volumes import Volume

HTML_FILE = "report.html"
CARD_FILE = "model_card.html"


def write_report(run_folder: Path) -> dict[str, Any]:
    """Write ``report.json``, ``report.html`` and ``model_card.html``; returns the report.

    Beside them goes a folder with the volumes of the pictured cases, for the page's viewer.

    Raises:
        ConfigError: If the folder holds no finished study.
    """
    report = build_report(run_folder)
    scores = Scores(read_scores(run_folder / SCORES_FILE))
    study, folder = read_study(run_folder), start_viewer_folder(run_folder)
    cases: dict[tuple[str, str], str] = {}

    def keep(picture: Picture, image: Volume, labels: Mapping[str, Volume]) -> None:
        name = f"case-{len(cases)}"
        window = study.task.window_hu or grey_window(image.data)
        write_case(folder / f"{name}.js", image, labels, window=window)
        cases[picture.site, picture.case] = name

    pictures = make_pictures(run_folder, study, scores, on_case=keep)
    write_json(run_folder / REPORT_FILE, report)
    write_text(run_folder / HTML_FILE, render_html(report, pictures=pictures, viewable=cases))
    write_text(run_folder / CARD_FILE, render_card(report))
    return report
