"""Runs in an MLflow store. A store that fails costs its own record and a warning, no training."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from segfed.errors import ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

LOCAL = "local"
"""Stands for a store in a file beside the run."""

_KEY, _PARENT, _NAME = "segfed.key", "mlflow.parentRunId", "mlflow.runName"
_STEP = "done"
"""Counts what is done, so that a training that goes on is not logged twice."""

_FLUSH_SECONDS = 5.0
_BATCH = 100
"""Parameters or tags that MLflow takes at once; of metrics it takes more."""

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Store:
    """Where runs are logged."""

    uri: str
    artifacts: str | None
    """URI of the folder for files, beside a local store; None for a server, which is sent none."""


def find_store(name: str, *, beside: Path) -> Store:
    """The store that a person names.

    Args:
        name: ``local``, ``sqlite:///FILE``, or the address of an MLflow server.
        beside: Folder of the run, in which the local store lies.

    Raises:
        ConfigError: If it is none of these.
    """
    if name == LOCAL:
        name = f"sqlite:///{beside.resolve() / 'mlflow.db'}"
    if name.startswith("sqlite:///"):
        folder = Path(name.removeprefix("sqlite:///")).resolve().parent
        return Store(name, (folder / "mlflow-artifacts").as_uri())
    if name.startswith(("https://", "http://")):
        return Store(name, None)
    raise ConfigError(
        f"Found the MLflow store {name!r}, expected {LOCAL!r}, 'sqlite:///FILE' or 'https://HOST': "
        "MLflow no longer keeps runs in plain folders. Name one of these."
    )


@dataclass
class TrackedRun:
    """One run of a store."""

    client: MlflowClient
    run_id: str
    last_step: int = 0
    """What was logged last, maybe by an earlier process."""

    _waiting: list[tuple[str, float, int]] = field(default_factory=list)
    _flushed_at: float = 0.0

    def log(self, values: Mapping[str, float | None], *, step: int) -> None:
        """Values of one step or round, written now or a little later; unknown ones are left out.

        A step that was logged already, as by an earlier process, is not logged again.
        """
        if step <= self.last_step:
            return
        self.last_step = step
        known = {name: value for name, value in values.items() if value is not None}
        self._waiting += [(name, value, step) for name, value in (known | {_STEP: step}).items()]
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self._flush()

    def log_last(self, values: Mapping[str, float | None]) -> None:
        """Values of the whole run, after its last step."""
        self.log(values, step=self.last_step + 1)

    def tag(self, facts: Mapping[str, str]) -> None:
        """Facts that a later process may replace: hashes and versions."""
        from mlflow.entities import RunTag

        for batch in _batches([RunTag(name, value) for name, value in facts.items()]):
            self.client.log_batch(self.run_id, tags=batch)

    def end(self, status: str) -> None:
        """Write what waits, and how the run ended: FINISHED, FAILED or KILLED."""
        self._flush()
        self.client.set_terminated(self.run_id, status)

    def _flush(self) -> None:
        """Write what waits."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for batch in _batches([Metric(name, v, now, step) for name, v, step in self._waiting]):
            self.client.log_batch(self.run_id, metrics=batch)
        self._waiting = []
        self._flushed_at = time.monotonic()


class RunStore:
    """The runs of one experiment, until the store fails; as its block ends, so do its runs."""

    def __init__(self, store: Store, *, experiment: str) -> None:
        """Take the store; it is opened, and made, when the first thing is logged."""
        self._store = store
        self._experiment = experiment
        self._runs: dict[str, TrackedRun] = {}
        self._has_failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ended = "FAILED" if isinstance(error, Exception) else "KILLED"
        for key in list(self._runs):
            self.end(key, "FINISHED" if error is None else ended)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do something with the store; after its first failure nothing is done any more."""
        if self._has_failed:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
            self._has_failed = True
            reason = str(error).partition("\n")[0]
            logger.warning(
                "MLflow failed with %s (%s), expected a store that takes what is logged. Nothing "
                "more is logged, and the training goes on; correct the store for the next one.",
                type(error).__name__,
                reason,
            )

    def run(
        self,
        key: str,
        *,
        name: str,
        params: Mapping[str, str],
        parent: str | None = None,
        goes_on: bool = True,
    ) -> TrackedRun:
        """The open run of a key; opened if none is.

        Args:
            key: What makes two runs the same.
            name: For people.
            params: Settings of a new run.
            parent: The key of the open run that it belongs to.
            goes_on: Whether to go on with the last run of the key that an earlier process left;
                else a new one begins, and what was left counts as killed.
        """
        if key not in self._runs:
            left = self._left(key)
            if left is not None and not goes_on and left.info.status == "RUNNING":
                self._client.set_terminated(left.info.run_id, "KILLED")
            if left is None or not goes_on:
                self._runs[key] = self._begin(key, name=name, params=params, parent=parent)
            else:
                self._runs[key] = self._go_on(left.info.run_id)
        return self._runs[key]

    def has_run(self, key: str) -> bool:
        """Whether there is a run of a key, ended or not."""
        return self._left(key) is not None

    def end(self, key: str, status: str = "FINISHED") -> None:
        """End the run of a key, if it is open."""
        if (run := self._runs.pop(key, None)) is not None:
            self.attempt(lambda: run.end(status))

    def attach(self, key: str, path: Path) -> None:
        """Put a file beside the run of a key; a server is sent none, since reports show cases."""
        if self._store.artifacts is not None:
            run = self._runs[key]
            run.client.log_artifact(run.run_id, str(path))

    def _left(self, key: str) -> Run | None:
        """The last run of a key in the store."""
        found = self._client.search_runs(
            [self._experiment_id],
            f"tags.`{_KEY}` = '{key}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        return found[0] if found else None

    def _go_on(self, run_id: str) -> TrackedRun:
        """A run that ended, or whose process did."""
        self._client.update_run(run_id, status="RUNNING")
        steps = [metric.step for metric in self._client.get_metric_history(run_id, _STEP)]
        return TrackedRun(self._client, run_id, max(steps, default=0))

    def _begin(
        self, key: str, *, name: str, params: Mapping[str, str], parent: str | None
    ) -> TrackedRun:
        """A run that begins now."""
        from mlflow.entities import Param

        tags = {_KEY: key, _NAME: name}
        if parent is not None:
            tags[_PARENT] = self._runs[parent].run_id
        run_id = self._client.create_run(self._experiment_id, tags=tags).info.run_id
        for batch in _batches([Param(name, value) for name, value in params.items()]):
            self._client.log_batch(run_id, params=batch)
        return TrackedRun(self._client, run_id)

    @cached_property
    def _client(self) -> MlflowClient:
        """MLflow, which reports usage and waits minutes for a server unless it is told not to."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        return MlflowClient(tracking_uri=self._store.uri)

    @cached_property
    def _experiment_id(self) -> str:
        """Of the experiment, made where it is not there."""
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(self._experiment, self._store.artifacts))


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """As many as MLflow takes at once."""
    for start in range(0, len(entries), _BATCH):
        yield entries[start : start + _BATCH]
