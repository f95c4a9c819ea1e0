"""Settings files: what is wrong with one, and where each key belongs."""

from __future__ import annotations

import pytest

from segfed.errors import ConfigError
from segfed.settings import Settings, validated


class Oven(Settings):
    """One table."""

    degrees: int
    minutes: int = 30


class Recipe(Settings):
    """A file with one table of its own."""

    title: str = ""
    oven: Oven = Oven(degrees=180)


def problem_of(raw):
    """What the message says of a recipe, without its first line."""
    with pytest.raises(ConfigError) as caught:
        validated(raw, Recipe, source="recipe.toml")
    return str(caught.value).split("\n", 1)[1].strip()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"tilte": "x"}, "tilte: unknown key; did you mean 'title'?"),
        ({"minutes": 9}, "minutes: unknown key; it belongs into [oven]"),
        ({"minute": 9}, "minute: unknown key; did you mean 'minutes' of [oven]?"),
        ({"colour": "red"}, "colour: unknown key; known keys: oven, title"),
        (
            {"oven": {"degrees": 1, "title": "x"}},
            "oven.title: unknown key; it belongs above the first [table]",
        ),
        (
            {"oven": {"degrees": 1, "rack": 2}},
            "oven.rack: unknown key; known keys: degrees, minutes",
        ),
        ({"oven": {"minutes": 9}}, "oven.degrees: is missing, and has no default"),
    ],
)
def test_a_problem_says_where_a_key_belongs(raw, said):
    assert problem_of(raw) == said
