"""Scores of a folder of predictions against a folder of references, whoever made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segfed.errors import (
    CaseError,
    GeometryError,
    LabelError,
    SegfedError,
    VolumeError,
    raise_together,
)
from segfed.evaluation.profiles import GENERIC, Profile, find_profile
from segfed.evaluation.scorecard import Score, score_case
from segfed.evaluation.summary import summarize, write_scores
from segfed.files import write_json
from segfed.sites.tasks import Task
from segfed.volumes import VOLUME_SUFFIXES, Volume, read_label

_ADVICE = "Nothing was written. Correct these files, or take them out of their folder."


@dataclass(frozen=True)
class Evaluation:
    """Every score of a folder of predictions.

    ``missing`` names the cases without a prediction, which score as empty ones; ``extra`` the
    predictions without a reference, which score nothing.
    """

    profile: Profile
    scores: tuple[Score, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def evaluate_folders(
    reference_dir: Path,
    predicted_dir: Path,
    *,
    profile: str,
    task: Task | None = None,
    on_case: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score every reference label with the prediction of the same name.

    A case's name is its file's name without extensions; NIfTI and NRRD may be mixed.

    Args:
        reference_dir: Folder of reference labels.
        predicted_dir: Folder of predicted labels.
        profile: Name of an evaluation profile.
        task: Structures and tolerances for the generic profile.
        on_case: Called with each case's name once it is scored, for progress.

    Raises:
        CaseError: If a folder holds no labels, or two files of one name.
        ConfigError: If no profile has this name.
        GeometryError: If a prediction is on another grid than its reference.
        LabelError: If a label holds values that the profile does not know.
        VolumeError: If a file cannot be read.

    Where that is so of several cases, one CaseError names them all.
    """
    references = label_files(reference_dir)
    predictions = label_files(predicted_dir)
    _check_not_empty(references, reference_dir, "reference")
    shared = {name: path for name, path in predictions.items() if name in references}
    if not shared:
        _refuse_unmatched(references, predictions, predicted_dir)
    values = set()
    if profile == GENERIC.name and task is None:
        values = _all_values([*references.values(), *shared.values()])
    chosen = find_profile(profile, task=task, values=values)
    scores: list[Score] = []
    problems: list[SegfedError] = []
    for case_id, path in references.items():
        try:
            scores += _score_files(path, shared.get(case_id), case_id, chosen)
        except (GeometryError, LabelError, VolumeError) as error:
            problems.append(error)
        if on_case is not None:
            on_case(case_id)
    raise_together(problems, advice=_ADVICE)
    return Evaluation(
        profile=chosen,
        scores=tuple(scores),
        missing=tuple(name for name in references if name not in predictions),
        extra=tuple(name for name in predictions if name not in references),
    )


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write ``scores.csv`` and ``summary.json`` into a folder."""
    write_scores(folder / "scores.csv", evaluation.scores)
    summary = summarize(
        evaluation.scores,
        profile=evaluation.profile,
        missing=evaluation.missing,
        extra=evaluation.extra,
    )
    write_json(folder / "summary.json", summary)


def label_files(folder: Path) -> dict[str, Path]:
    """Label files of a folder by case name, in the order of the names.

    Hidden files are no labels: macOS leaves ``._case.nii.gz`` beside ``case.nii.gz``.

    Raises:
        CaseError: If the folder is missing, or two files have one name.
    """
    if not folder.is_dir():
        raise CaseError(f"Found no folder at {folder}; expected one with labels. Check the path.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((end for end in VOLUME_SUFFIXES if path.name.lower().endswith(end)), None)
        if suffix is None or path.name.startswith("."):
            continue
        name = path.name[: -len(suffix)]
        if name in files:
            raise CaseError(
                f"Case {name}: found both {files[name].name} and {path.name} in {folder}; expected "
                "one label a case. Remove one of them."
            )
        files[name] = path
    return files


def _check_not_empty(files: Mapping[str, Path], folder: Path, kind: str) -> None:
    if not files:
        raise CaseError(
            f"Found no {kind} labels in {folder}; expected files ending in "
            f"{', '.join(VOLUME_SUFFIXES)}. Check the folder."
        )


def _refuse_unmatched(
    references: Mapping[str, Path], predictions: Mapping[str, Path], folder: Path
) -> None:
    """A folder without a single matching name is a wrong folder, not a set of missing cases."""
    _check_not_empty(predictions, folder, "predicted")
    raise CaseError(
        f"None of the {len(predictions)} predictions in {folder}, such as "
        f"{next(iter(predictions))!r}, has the name of a reference, such as "
        f"{next(iter(references))!r}. Name each prediction like its reference."
    )


def _all_values(paths: Iterable[Path]) -> set[int]:
    """Distinct values of all labels."""
    values: set[int] = set()
    problems: list[SegfedError] = []
    for path in paths:
        try:
            values |= _values(read_label(path))
        except VolumeError as error:
            problems.append(error)
    raise_together(problems, advice=_ADVICE)
    return values


def _score_files(
    reference: Path, predicted: Path | None, case_id: str, profile: Profile
) -> tuple[Score, ...]:
    """A case's scores; without a prediction those of an empty one."""
    label = _read_known(reference, case_id, profile)
    found = None if predicted is None else _read_known(predicted, case_id, profile)
    return score_case(label, found, case_id=case_id, profile=profile)


def _values(label: Volume) -> set[int]:
    """Distinct label values."""
    return {int(value) for value in np.unique(label.data)}


def _read_known(path: Path, case_id: str, profile: Profile) -> Volume:
    """A label, refused if it holds values that the profile doesn't know.

    Scored as background, they would give a number that looks fair and isn't.
    """
    label = read_label(path)
    unknown = sorted(_values(label) - profile.label_values - {0})
    if unknown:
        raise LabelError(
            f"Case {case_id}: {path} holds the label value(s) {unknown}; the {profile.name} "
            f"profile scores {sorted(profile.label_values)}. Remap the label, or choose the "
            "profile or task that it was made for."
        )
    return label
