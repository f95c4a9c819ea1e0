"""The code of the federation, which segfed starts and sends but never imports."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from segfed.errors import FederationError
from segfed.files import sha256_file, sha256_json


def code_folder() -> Path:
    """Where the installed package ``federation`` lies.

    Raises:
        FederationError: If it is not installed.
    """
    spec = importlib.util.find_spec("federation")
    if spec is None or spec.origin is None:
        raise FederationError(
            "Found no package 'federation'; expected it beside segfed. Install segfed again."
        )
    return Path(spec.origin).parent


def code_sha256() -> str:
    """Hash over the names and contents of the federation's source files."""
    folder = code_folder()
    sources = sorted(folder.rglob("*.py"))
    return sha256_json({str(path.relative_to(folder)): sha256_file(path) for path in sources})
