"""Fixtures that several test files share."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

# What a script starts in the background ignores Ctrl-C, and so do its children: tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """A function from the name of a real data set to its folder; skips where it is absent."""

    def locate(name: str) -> Path:
        folder = SHARED_DATA / name
        if not folder.exists():
            pytest.skip(f"real data set {name!r} is not at {folder}")
        return folder

    return locate


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MLflow store without runs, as a file: making its tables takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with warnings.catch_warnings(action="ignore"):  # of the database layer's own deprecations
        MlflowClient(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How often the label server is killed; `make soak` wants it more often."""
    parser.addoption("--kills", type=int, default=20, help="kills of the label server (20)")
