"""Predictions of every test case by every model, and their scores; nothing is done twice."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from segfed.engine import predict_label
from segfed.evaluation import Profile, find_profile, score_case, structure_mask
from segfed.files import sha256_file, sha256_json, write_json
from segfed.sites import LabelledCase, Task
from segfed.study.events import CaseScored
from segfed.study.models import ModelId
from segfed.study.personal import at_site, sha256_at_site
from segfed.study.preflight import SiteLabels
from segfed.study.records import METRICS, REFERENCE_VOLUME, ScoreRow
from segfed.study.run import StudyRun
from segfed.volumes import read_channels, read_label, write_label


def study_profile(name: str, task: Task) -> Profile:
    """The evaluation profile of a study: the task's structures and tolerances."""
    return replace(find_profile(name, task=task), metrics=(*METRICS, "volume_difference_mm3"))


def score_model(
    run: StudyRun, model: ModelId, networks: Sequence[nn.Module], *, weights_sha256: str
) -> list[ScoreRow]:
    """Scores of one model on the test cases of all sites, external ones included.

    Each prediction lies in the run folder beside its scores, under a key of everything that they
    depend on; where the key is the same as before, neither is computed again.

    Args:
        run: The study.
        model: Which model.
        networks: Its network, or those of an ensemble.
        weights_sha256: Identifies their weights.
    """
    tests = _tests(run, model)
    own = {
        site.site.name: at_site(run, model, networks, site=site.site.name)
        for site in run.data.everywhere
    }
    rows = []
    for done, test in enumerate(tests, start=1):
        site = test.site.site.name
        key = _key(run, test.labelled, sha256_at_site(run, model, weights_sha256, site=site))
        scores = _stored_scores(test.path, key)
        if scores is None:
            scores = _predict_and_score(run, own[site], test.labelled, path=test.path, key=key)
        rows += [
            ScoreRow(
                regime=model.regime,
                arm=model.arm,
                seed=model.seed,
                train_site=model.train_site,
                test_site=site,
                external=test.site in run.data.external,
                case=test.labelled.case.case_id,
                structure=structure,
                metric=metric,
                value=float(value),
            )
            for structure, metric, value in scores
        ]
        run.on_event(CaseScored(model, done, len(tests)))
    return rows


@dataclass(frozen=True)
class _Test:
    """A test case of a study, and where one model's prediction of it lies."""

    site: SiteLabels
    labelled: LabelledCase
    path: Path


def _tests(run: StudyRun, model: ModelId) -> list[_Test]:
    """The test cases of all sites, those of external ones last."""
    folder = run.out / model.predictions
    return [
        _Test(site, labelled, folder / site.site.name / f"{labelled.case.case_id}.nii.gz")
        for site in run.data.everywhere
        for labelled in site.test
    ]


@dataclass(frozen=True)
class StoredScores:
    """What a run folder holds of one model's scores."""

    n_left: int
    """Test cases that are still to be predicted."""

    seconds: tuple[float, ...]
    """What each prediction took, scoring included, where that was noted."""


def stored_scores(run: StudyRun, model: ModelId, weights_sha256: str | None) -> StoredScores:
    """How many of a model's predictions are there; all are wanting for weights that are not yet.

    A study of a split that is not compared predicts nothing.
    """
    if not run.settings.compares:
        return StoredScores(0, ())
    n_left, seconds = 0, []
    for test in _tests(run, model):
        key = None
        if weights_sha256:
            sha256 = sha256_at_site(run, model, weights_sha256, site=test.site.site.name)
            key = _key(run, test.labelled, sha256)
        n_left += key is None or _stored_scores(test.path, key) is None
        if (took := _seconds(test.path)) is not None:
            seconds.append(took)
    return StoredScores(n_left, tuple(seconds))


def _key(run: StudyRun, labelled: LabelledCase, weights_sha256: str) -> str:
    """Hash of everything that a prediction and its scores depend on."""
    profile = run.profile
    return sha256_json(
        {
            "versions": dict(run.versions),
            "device": str(run.device),
            "weights": weights_sha256,
            "plan": run.plan.sha256,
            "image": labelled.case.image_sha256,
            "reference": labelled.record.label_sha256,
            "profile": [
                profile.name,
                profile.metrics,
                dict(profile.structures),
                dict(profile.tolerance_mm),
            ],
        }
    )


def _predict_and_score(
    run: StudyRun,
    networks: Sequence[nn.Module],
    labelled: LabelledCase,
    *,
    path: Path,
    key: str,
) -> list[list[str]]:
    """Write a prediction, then its scores; the scores' file is what says that both are there."""
    start = time.perf_counter()
    image = read_channels(labelled.case.channels)
    predicted = predict_label(networks, run.plan, image, device=run.device)
    write_label(predicted, path)
    reference = read_label(labelled.label_path)
    scores = score_case(reference, predicted, case_id=labelled.case.case_id, profile=run.profile)
    # As text: JSON has neither NaN nor infinity, and both are results here.
    rows = [[score.structure, score.metric, repr(score.value)] for score in scores]
    for structure, values in run.profile.structures.items():
        n_voxels = np.count_nonzero(structure_mask(reference.data[0], values))
        volume_mm3 = float(n_voxels * reference.grid.voxel_mm3)
        rows.append([structure, REFERENCE_VOLUME, repr(volume_mm3)])
    write_json(
        _scores_path(path),
        {
            "key": key,
            "prediction_sha256": sha256_file(path),
            "scores": rows,
            "seconds": time.perf_counter() - start,
        },
    )
    return rows


def _stored_scores(path: Path, key: str) -> list[list[str]] | None:
    """The scores of an earlier run with the same key, if the prediction is still that one."""
    try:
        stored: dict[str, Any] = json.loads(_scores_path(path).read_text(encoding="utf-8"))
        intact = stored["key"] == key and stored["prediction_sha256"] == sha256_file(path)
    except FileNotFoundError:
        return None
    scores: list[list[str]] = stored["scores"]
    return scores if intact else None


def _seconds(path: Path) -> float | None:
    """What a prediction took; None where it is not there, or an earlier version made it."""
    try:
        stored: dict[str, Any] = json.loads(_scores_path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return stored.get("seconds")


def _scores_path(path: Path) -> Path:
    """The scores beside a prediction."""
    return path.with_name(path.name.removesuffix(".nii.gz") + ".json")
