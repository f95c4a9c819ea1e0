"""The report of a study: ``report.json``, pages that open anywhere, and a table to print."""

from segfed.report.build import REPORT_FILE, build_report
from segfed.report.home import HOME_HTML_FILE, write_home_report
from segfed.report.page import render_html
from segfed.report.pdf import BROWSERS, print_page
from segfed.report.terminal import summary_table
from segfed.report.write import CARD_FILE, HTML_FILE, write_report

__all__ = [
    "BROWSERS",
    "CARD_FILE",
    "HOME_HTML_FILE",
    "HTML_FILE",
    "REPORT_FILE",
    "build_report",
    "print_page",
    "render_html",
    "summary_table",
    "write_home_report",
    "write_report",
]
