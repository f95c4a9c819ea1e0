"""Both files of a report, written beside the records from which they are computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segfed.files import write_json, write_text
from segfed.report.build import REPORT_FILE, build_report
from segfed.report.page import render_html
from segfed.report.pictures import make_pictures
from segfed.report.values import Scores
from segfed.study.records import SCORES_FILE, read_scores, read_study

HTML_FILE = "report.html"


def write_report(run_folder: Path) -> dict[str, Any]:
    """Write ``report.json`` and ``report.html`` into a run folder; returns the report.

    Raises:
        ConfigError: If the folder holds no finished study.
    """
    report = build_report(run_folder)
    scores = Scores(read_scores(run_folder / SCORES_FILE))
    pictures = make_pictures(run_folder, read_study(run_folder), scores)
    write_json(run_folder / REPORT_FILE, report)
    write_text(run_folder / HTML_FILE, render_html(report, pictures=pictures))
    return report
