"""Log lines as JSON, for a program that collects them, and the story that commands tell."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

from rich.console import Console

LogFormat = Literal["text", "json"]

_story = logging.getLogger("segfed.story")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["error"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


class StoryLines(logging.Handler):
    """Each line of the story on a console, with the time of day."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        at = datetime.fromtimestamp(record.created)
        self._console.print(
            f"{at:%H:%M:%S} {record.getMessage()}", highlight=False, soft_wrap=True, markup=False
        )


def json_handler(stream: TextIO) -> logging.Handler:
    """A handler that writes JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    return handler


def tell_story(console: Console, log_format: LogFormat) -> None:
    """Have `say` write to a console, or JSON lines to stdout."""
    handler = StoryLines(console) if log_format == "text" else json_handler(sys.stdout)
    _story.handlers = [handler]
    _story.setLevel(logging.INFO)
    _story.propagate = False


def say(text: str) -> None:
    """One line of the story of a command that runs for long."""
    _story.info("%s", text)
