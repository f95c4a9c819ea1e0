"""The report of a study: ``report.json``, a page that opens anywhere, and a table to print."""

from segfed.report.build import REPORT_FILE, build_report
from segfed.report.page import render_html
from segfed.report.terminal import summary_table
from segfed.report.write import HTML_FILE, write_report

__all__ = [
    "HTML_FILE",
    "REPORT_FILE",
    "build_report",
    "render_html",
    "summary_table",
    "write_report",
]
