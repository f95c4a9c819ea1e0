"""What the documentation tells people to type exists, and so do the pages to which it points."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from typer.main import get_command

from segfed.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("deploy/**/*.md"))]
_FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(segfed [^`]*)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def commands(page: Path) -> list[str]:
    """Every command line of segfed in a page's blocks and sentences."""
    text = page.read_text(encoding="utf-8")
    lines = "\n".join(_FENCED.findall(text)).replace("\\\n", " ")
    typed = (line.strip().removeprefix("$ ") for line in lines.splitlines())
    in_sentences = (line.replace("\n", " ") for line in _INLINE.findall(_FENCED.sub("", text)))
    return [*(line for line in typed if line.startswith("segfed ")), *in_sentences]


def unknown_words(line: str) -> list[str]:
    """Commands and options of a line that segfed does not have."""
    command, words = get_command(app), shlex.split(line, comments=True)[1:]
    while isinstance(command, click.Group) and words:
        found = command.commands.get(words[0])
        if found is None:
            return [] if words[0] == "--help" else words[:1]
        command, words = found, words[1:]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    return [word for word in words if word.startswith("--") and word not in known]


def anchors(page: Path) -> set[str]:
    """The places of a page to which a link can point, as GitHub names them."""
    titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documentation_exist(page):
    assert {line: unknown for line in commands(page) if (unknown := unknown_words(line))} == {}


def test_a_command_that_does_not_exist_is_noticed():
    assert unknown_words("segfed label aprove SITE") == ["aprove"]
    assert unknown_words("segfed label approve SITE --by rita  # no") == ["--by"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_the_documentation_lead_somewhere(page):
    for path, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} points to {path}"
        assert not anchor or anchor in anchors(target), f"{page.name} points to {path}#{anchor}"
