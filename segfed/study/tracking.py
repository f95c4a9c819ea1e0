"""What of a study or a federation is logged to MLflow, live.

No path, no name of a case and nothing else of a patient is: settings, hashes, losses, and means of
validation cases as the server knows them. The report, which shows cases, goes no further than this
machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segfed.files import sha256_json
from segfed.protocol import Manifest, RoundRecord
from segfed.study.events import (
    OnEvent,
    StudyChecked,
    StudyEvent,
    TrainingAdvanced,
    TrainingFinished,
)
from segfed.study.models import ModelId
from segfed.study.records import read_study
from segfed.study.run_store import RunStore, TrackedRun, find_store
from segfed.study.settings import StudySettings

_PATHS = {"sites", "external_sites", "task"}
"""Settings that are paths, or may be."""


class StudyTracker:
    """A listener that logs a study as one run, and each model that it trains as a run below."""

    def __init__(self, runs: RunStore, settings: StudySettings) -> None:
        """Take the store; nothing is logged before the study was checked."""
        self._runs = runs
        self._name = settings.name
        self._params = _flat(settings.model_dump(mode="json", exclude=_PATHS)) | {
            "n_sites": str(len(settings.sites)),
            "n_external_sites": str(len(settings.external_sites)),
        }
        self._key = sha256_json(self._params)
        self._resumed: set[ModelId] = set()

    def __call__(self, event: StudyEvent) -> None:
        """Take one event."""
        self._runs.attempt(lambda: self._take(event))

    def add_report(self, report: Mapping[str, Any], folder: Path) -> None:
        """Log the mean Dice of the test cases and the models' hashes, and attach the report."""
        self._runs.attempt(lambda: self._add_report(report, folder))

    def _take(self, event: StudyEvent) -> None:
        match event:
            case StudyChecked():
                plan = event.schedule.models
                self._resumed = {item.model for item in plan if item.action == "resume"}
                self._study_run()
            case TrainingAdvanced(round_record=RoundRecord() as record):
                self._model_run(event.model).log(round_values(record), step=event.done)
            case TrainingAdvanced():
                self._model_run(event.model).log({"loss": event.loss}, step=event.done)
            case TrainingFinished():
                self._finish(event)

    def _finish(self, event: TrainingFinished) -> None:
        """A model is there; one that an earlier run made and logged is left as it is."""
        key = self._model_key(event.model)
        if not (event.reused and self._runs.has_run(key)):
            self._model_run(event.model).log_last({"seconds_in_all": event.seconds})
            self._runs.end(key)

    def _study_run(self) -> TrackedRun:
        return self._runs.run(self._key, name=self._name, params=self._params)

    def _model_run(self, model: ModelId) -> TrackedRun:
        return self._runs.run(
            self._model_key(model),
            name=str(model),
            params={name: str(value) for name, value in vars(model).items()},
            parent=self._key,
            goes_on=model in self._resumed,
        )

    def _model_key(self, model: ModelId) -> str:
        return f"{self._key}/{model.folder}"

    def _add_report(self, report: Mapping[str, Any], folder: Path) -> None:
        study, run = read_study(folder), self._study_run()
        run.tag(
            {"plan_sha256": study.plan_sha256, "computed_on": study.device}
            | {f"version.{name}": version for name, version in study.versions.items()}
            | {f"weights_sha256.{m.model_id.folder}": m.sha256 for m in study.models}
        )
        run.log_last(
            {
                f"dice/{regime}/{arm}/{structure}": estimate["mean"]
                for regime, arms in report["dice"].items()
                for arm, structures in arms.items()
                for structure, estimate in structures.items()
            }
        )
        for name in ("report.html", "report.json"):
            self._runs.attach(self._key, folder / name)


@contextmanager
def track_study(
    settings: StudySettings, *, store: str | None, folder: Path
) -> Iterator[StudyTracker | None]:
    """What listens to a study and logs it; None where no store is named.

    Args:
        settings: The study.
        store: See `find_store`.
        folder: The run folder.

    Raises:
        ConfigError: If there is no such store.
    """
    if store is None:
        yield None
        return
    with RunStore(find_store(store, beside=folder), experiment=settings.name) as runs:
        yield StudyTracker(runs, settings)


@contextmanager
def track_federation(
    manifest: Manifest, *, store: str | None, folder: Path
) -> Iterator[Callable[[RoundRecord], None]]:
    """What takes each finished round of a federation and logs it, or nothing without a store.

    Rounds that an earlier process logged are not logged again.

    Args:
        manifest: The study.
        store: See `find_store`.
        folder: The folder beside which a local store lies.

    Raises:
        ConfigError: If there is no such store.
    """
    if store is None:
        yield _ignore_round
        return
    params = _flat(manifest.model_dump(mode="json")) | {"manifest_sha256": manifest.sha256}
    with RunStore(find_store(store, beside=folder), experiment=manifest.study) as runs:

        def log(record: RoundRecord) -> None:
            run = runs.run(manifest.sha256, name=manifest.study, params=params)
            run.log(round_values(record), step=record.round)

        yield lambda record: runs.attempt(lambda: log(record))


def _ignore_round(record: RoundRecord) -> None:
    """The listener of those who log nothing."""
    del record


def round_values(record: RoundRecord) -> dict[str, float | None]:
    """What a round brought, over all and by site: Dice, loss, seconds, bytes, who was dropped."""
    values: dict[str, float | None] = {
        "loss": record.loss,
        "validation_dice": record.validation_dice,
        "seconds": record.seconds,
        "sites_dropped": float(len(record.dropped)),
    }
    for direction in ("bytes_up", "bytes_down"):
        values[direction] = sum(site.get(direction) or 0.0 for site in record.sites.values())
    for name, site in record.sites.items():
        values |= {f"{name}/{key}": value for key, value in site.items()}
        values[f"{name}/dropped"] = float(name in record.dropped)
    return values


def to_both(first: OnEvent, second: OnEvent | None) -> OnEvent:
    """A listener that tells two; the first one alone where there is no second."""
    if second is None:
        return first

    def tell(event: StudyEvent) -> None:
        first(event)
        second(event)

    return tell


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted names; what is not set is left out."""
    found: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            found[f"{prefix}{name}"] = str(value)
    return found
