"""A page is printed by whatever browser there is, or the error says what to install."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segfed.cli.main import app
from segfed.errors import ConfigError
from segfed.report.pdf import print_page


def write_program(path: Path, script: str) -> str:
    """A stand-in for a browser."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


PRINTS = """
for option in "$@"; do
  case "$option" in --print-to-pdf=*) echo "%PDF of $#" > "${option#--print-to-pdf=}";; esac
done
"""


def test_what_the_browser_prints_becomes_the_pdf(tmp_path):
    browser = write_program(tmp_path / "browser", PRINTS)

    printed = print_page(tmp_path / "page.html", tmp_path / "page.pdf", browser=browser)

    assert printed.read_text().startswith("%PDF")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["browser", "page.pdf"]


@pytest.mark.parametrize("script", ["echo 'no display' >&2; exit 3", "true"])
def test_a_browser_that_prints_nothing_leaves_an_earlier_pdf_alone(tmp_path, script):
    (tmp_path / "page.pdf").write_text("earlier")
    browser = write_program(tmp_path / "browser", script)

    with pytest.raises(ConfigError, match="did not print"):
        print_page(tmp_path / "page.html", tmp_path / "page.pdf", browser=browser)

    assert (tmp_path / "page.pdf").read_text() == "earlier"


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone did not print .*page\.html"):
        print_page(tmp_path / "page.html", tmp_path / "page.pdf", browser=str(tmp_path / "gone"))


def test_without_a_browser_the_command_says_what_to_install_before_it_works(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="apt install chromium"):
        CliRunner().invoke(app, ["report", str(tmp_path), "--pdf"], catch_exceptions=False)
