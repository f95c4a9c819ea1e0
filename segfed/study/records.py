"""The records of a run, from which every figure of its report is computed."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from segfed.errors import ConfigError
from segfed.files import sha256_json, write_text
from segfed.settings import Settings, validated
from segfed.sites import Task
from segfed.study.models import ModelId
from segfed.study.settings import StudySettings

SCORES_FILE = "scores.csv"
LABELS_FILE = "labels.csv"
ANCHORING_FILE = "anchoring.csv"
AGREEMENT_FILE = "agreement.csv"
STUDY_FILE = "study.json"

WEIGHTS_FILE = "model.safetensors"
"""The weights in a model's folder."""

INPUTS_FILE = "inputs.json"
"""Hashes of everything that the model beside it was made from."""

RANGE_FILE = "input_range.json"
"""What the training images of the model beside it look like."""

METRICS = ("dice", "surface_dice", "hd95_mm")
"""What every model is scored by; the difference of volumes stands beside it, case by case."""

REFERENCE_VOLUME = "reference_mm3"
"""The metric that says how large a structure is in the reference."""


@dataclass(frozen=True)
class ScoreRow:
    """One line of ``scores.csv``: one metric of one structure in one test case for one model."""

    regime: str
    arm: str
    seed: int
    train_site: str
    test_site: str
    external: bool
    case: str
    structure: str
    metric: str
    value: float
    """NaN where reference and prediction are empty; distances are infinite where one is."""


@dataclass(frozen=True)
class LabelRow:
    """One line of ``labels.csv``: a training label, and what it cost its reader."""

    site: str
    case: str
    arm: str
    reader: str
    origin: str
    image_sha256: str
    label_sha256: str
    proposal_sha256: str | None
    model_sha256: str | None
    active_seconds: float | None
    changed_fraction: float | None
    """Changed volume over the volume of proposal and label together."""

    added_mm3: float | None
    removed_mm3: float | None
    added_path_length: int | None
    period: int | None = None
    """Of a crossover; None where nobody was assigned. This and what follows is None in records of
    a version without it, too."""

    proposal_dice: float | None = None
    """Of the submitted label with its proposal, mean over the structures that either has."""

    proposal_surface_dice: float | None = None
    reference: str | None = None
    """Who drew the case by another hand, or ``truth`` of a phantom."""

    reference_dice: float | None = None
    """Of the label with that reference, mean over the structures that either has."""


@dataclass(frozen=True)
class AnchoringRow:
    """One line of ``anchoring.csv``: a clear error of a proposal, and whether a label repeats it.

    A training label of which the proposal has no clear error, or that cannot be judged, has one
    line without a volume.
    """

    site: str
    case: str
    arm: str
    reader: str
    model_sha256: str
    """Of the model whose proposal is meant; empty where there is no proposal."""

    reference: str
    """Whose label says what is wrong: another reader's name, or ``truth`` of a phantom; empty
    where there is none."""

    volume_mm3: float | None
    agreement: float | None
    """Share of the error at which the label holds the proposal's wrong value."""


@dataclass(frozen=True)
class AgreementRow:
    """One line of ``agreement.csv``: one structure of a case that two readers drew by hand."""

    site: str
    case: str
    first_reader: str
    second_reader: str
    structure: str
    dice: float
    """NaN if neither drew the structure."""


_Row = TypeVar("_Row", ScoreRow, LabelRow, AnchoringRow, AgreementRow)


class PatientCounts(Settings):
    """How many patients a site has: none is in two splits where the parts add up to the whole."""

    splits: dict[str, int]
    """Patients in each split, cases without a label included."""

    total: int
    """Different patients of the site."""


class SiteRecord(Settings):
    """A site as it took part."""

    name: str
    folder: Path
    data: Literal["real", "synthetic", "rendered"]
    external: bool
    n_train: dict[str, int]
    """Training labels of each arm."""

    n_validation: int
    n_test: int
    patients: PatientCounts | None = None
    """None in records of a version that did not count them, as for the spacings."""

    finest_axis_mm: tuple[float, float] | None = None
    """Smallest and largest spacing of the voxels of its cases, along each image's finest axis."""

    coarsest_axis_mm: tuple[float, float] | None = None
    """The same along each image's coarsest axis: mostly the distance of slices."""


class ModelRecord(Settings):
    """A model as it was trained."""

    regime: str
    arm: str
    seed: int
    train_site: str
    sha256: str
    """Of its weights' file; for an ensemble, of its members' hashes."""

    steps: int
    """Optimizer steps behind it, over all sites; 0 for the untrained network."""

    seconds: float
    n_cases: int
    best_step: int | None = None
    """How many of the steps lie behind the best validation, whose weights are kept; None where
    nothing was validated."""

    epsilon: float | None = None
    """The most that its training spent of the privacy budget at a site; None without a budget."""

    @property
    def model_id(self) -> ModelId:
        """Which model of the study it is."""
        return ModelId(self.regime, self.arm, self.seed, self.train_site)


def ensemble_sha256(members: Sequence[str]) -> str:
    """What an ensemble is known by: the hash of its members' weights' hashes, in their order."""
    return sha256_json(list(members))


class TestCaseRecord(Settings):
    """A test case and what it was scored against."""

    site: str
    case: str
    image_sha256: str
    reference_sha256: str
    reader: str | None = None
    """Who drew the reference; None in records of a version that did not say."""


class StudyModel(Settings):
    """What tells a model of a study from the others; see `ModelId`."""

    regime: str
    arm: str
    seed: int
    train_site: str


class StudyRecord(Settings):
    """``study.json``: the resolved settings, and everything needed to repeat and to check a run."""

    schema_version: int = 1
    settings: StudySettings
    task: Task
    plan: dict[str, Any]
    plan_sha256: str
    budget_steps: dict[str, int]
    """Optimizer steps of one model of each regime; for ``federated`` those of all sites."""

    versions: dict[str, str]
    device: str
    sites: tuple[SiteRecord, ...]
    models: tuple[ModelRecord, ...]
    test_cases: tuple[TestCaseRecord, ...]
    warnings: tuple[str, ...]
    not_run: tuple[StudyModel, ...] = ()
    """Models that the study names and that nobody has trained yet."""


def write_study(out: Path, record: StudyRecord) -> None:
    """Save a run's settings, versions and hashes beside its results."""
    write_text(out / STUDY_FILE, record.model_dump_json(indent=2) + "\n")


def read_inputs(model_folder: Path) -> dict[str, Any]:
    """What a model was made from: by site, the images and labels of each use, as hashes.

    Raises:
        FileNotFoundError: If the model has left no such record.
    """
    content: dict[str, Any] = json.loads((model_folder / INPUTS_FILE).read_text(encoding="utf-8"))
    sites: dict[str, Any] = content["sites"]
    return sites


def read_study(run_folder: Path) -> StudyRecord:
    """The record of a run.

    Raises:
        ConfigError: If the folder holds no finished study.
    """
    path = run_folder / STUDY_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise _no_study(path) from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}. Run the study again.") from error
    return validated(raw, StudyRecord, source=str(path))


def read_scores(path: Path) -> tuple[ScoreRow, ...]:
    """The lines of ``scores.csv``.

    Raises:
        ConfigError: If the file is missing or damaged, or its columns are others.
    """
    return _read(path, ScoreRow)


def read_labels(path: Path) -> tuple[LabelRow, ...]:
    """The lines of ``labels.csv``.

    Raises:
        ConfigError: If the file is missing or damaged, or its columns are others.
    """
    return _read(path, LabelRow)


def read_anchoring(path: Path) -> tuple[AnchoringRow, ...]:
    """The lines of ``anchoring.csv``; none for a run of a version that did not write it.

    Raises:
        ConfigError: If the file is damaged, or its columns are others.
    """
    return _read(path, AnchoringRow) if path.exists() else ()


def read_agreement(path: Path) -> tuple[AgreementRow, ...]:
    """The lines of ``agreement.csv``; none for a run of a version that did not write it.

    Raises:
        ConfigError: If the file is damaged, or its columns are others.
    """
    return _read(path, AgreementRow) if path.exists() else ()


def _read(path: Path, kind: type[_Row]) -> tuple[_Row, ...]:
    """The rows of a CSV file by a record's columns; those with a default may all be missing."""
    expected = [field.name for field in fields(kind)]
    required = [field.name for field in fields(kind) if field.default is MISSING]
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            found, rows = list(reader.fieldnames or ()), list(reader)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_study(path) from None
    if found not in (expected, required):
        raise ConfigError(
            f"{path} begins with the columns {found}, expected {expected}. Run the study again "
            "with this version: what is unchanged is not computed twice."
        )
    # An empty cell is None where the record knows that, and else an empty text.
    empty = {name: None for name, of in get_type_hints(kind).items() if NoneType in get_args(of)}
    adapter, records = TypeAdapter(kind), []
    for number, row in enumerate(rows, start=2):
        cells = {name: cell or empty.get(name, cell) for name, cell in row.items()}
        try:
            records.append(adapter.validate_python(cells))
        except ValidationError as error:
            problem = error.errors()[0]
            raise ConfigError(
                f"{path}, line {number}: {problem['loc'][0]} is {problem['input']!r}. "
                f"{problem['msg']}. Run the study again: what is unchanged is not computed twice."
            ) from error
    return tuple(records)


def _no_study(path: Path) -> ConfigError:
    """What to say of a folder without results."""
    return ConfigError(
        f"No {path.name} in {path.parent}; expected the folder of a finished study. Run the study "
        "first, or give the right folder."
    )
