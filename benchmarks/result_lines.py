"""Results of runs that take long: one a line, so that a benchmark goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """The runs that are done; none without a file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, item: Mapping[str, Any]) -> None:
    """Add a run that is done now."""
    with path.open("a") as handle:
        handle.write(json.dumps(item) + "\n")
