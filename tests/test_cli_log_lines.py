"""Lines for people and for programs."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from rich.console import Console

from segfed.cli.log_lines import JsonLines, say, tell_story


def line(message="Round %d is done.", *arguments, **fields):
    record = logging.LogRecord("segfed.x", logging.INFO, "x.py", 1, message, arguments, None)
    record.__dict__.update(fields)
    return json.loads(JsonLines().format(record))


def test_a_line_is_one_object_with_time_level_logger_and_message():
    assert line("Round %d is done.", 3, created=0.5) == {
        "time": "1970-01-01T00:00:00.500+00:00",
        "level": "INFO",
        "logger": "segfed.x",
        "message": "Round 3 is done.",
    }


def test_a_message_of_several_lines_stays_one_line():
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "two\nlines", (), None)

    assert "\n" not in JsonLines().format(record)


def test_an_error_brings_its_traceback():
    try:
        raise ValueError("why")
    except ValueError:
        found = line("failed", exc_info=sys.exc_info())

    assert "ValueError: why" in found["error"]


@pytest.mark.parametrize("text", ["The server listens.", "Run [bold]x[/bold]"])
def test_the_story_is_told_to_people_with_the_time(text):
    console = Console()
    tell_story(console, "text")

    with console.capture() as captured:
        say(text)

    time, told = captured.get().strip().split(" ", 1)
    assert (len(time.split(":")), told) == (3, text)


def test_the_story_is_told_to_programs_as_json(capsys):
    tell_story(Console(), "json")

    say("The server listens.")

    assert json.loads(capsys.readouterr().out)["message"] == "The server listens."
