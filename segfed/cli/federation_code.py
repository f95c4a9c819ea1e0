"""The code of the federation, which segfed starts and sends but never imports."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from segfed.errors import FederationError
from segfed.files import sha256_file, sha256_json
from segfed.protocol import MANIFEST_KEY, Manifest

_PROJECT = """\
[project]
name = "segfed-study"
version = "{version}"
dependencies = []

[tool.flwr.app]
publisher = "segfed"
fab-include = ["federation/*.py"]

[tool.flwr.app.components]
serverapp = "federation.deployment:app"
clientapp = "federation.client_app:app"

[tool.flwr.app.config]
{key} = "{manifest}"
"""


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


def write_app(folder: Path, manifest: Manifest) -> Path:
    """Put together what Flower ships to the sites; returns the folder of the app.

    It holds the sources of ``federation`` and a project file, and nothing that lies beside them
    here. ``segfed`` and ``transforms`` are those that each site installed:
    Flower puts what it ships before them.

    Args:
        folder: An empty folder.
        manifest: The study; its hash alone is in the run config.

    Raises:
        FederationError: If the manifest declares other code than what is installed here.
    """
    declared, installed = manifest.bundle_sha256, code_sha256()
    if declared != installed:
        raise FederationError(
            f"The manifest declares the code {declared[:12] or '(none)'}, but "
            f"{installed[:12]} is installed here; expected the same, because the sites approved "
            "that. Install the version that signed the study, or sign it again here."
        )
    app = folder / "segfed-study"
    sources = code_folder()
    for source in sorted(sources.rglob("*.py")):
        target = app / "federation" / source.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    project = _PROJECT.format(
        version=importlib.metadata.version("segfed"),
        key=MANIFEST_KEY,
        manifest=manifest.sha256,
    )
    (app / "pyproject.toml").write_text(project, encoding="utf-8")
    return app
