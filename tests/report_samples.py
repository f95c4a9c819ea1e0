"""A run folder written by hand: records of a small study whose figures a test can work out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from segfed.files import write_json, write_rows, write_text
from segfed.protocol import FederationState, RoundRecord
from segfed.sites import SiteSettings, add_case, create_site, load_site, load_task, submit_label
from segfed.study.models import (
    ModelId,
    ensemble_models,
    trained_models,
    untrained_models,
)
from segfed.study.records import (
    LABELS_FILE,
    SCORES_FILE,
    LabelRow,
    ModelRecord,
    ScoreRow,
    SiteRecord,
    StudyModel,
    StudyRecord,
    TestCaseRecord,
    write_study,
)
from segfed.study.settings import Budget, EvaluationSettings, StudySettings
from segfed.volumes import Grid, Volume, write_label

STRUCTURES = ("kidney_and_mass", "mass", "tumor")
SHAPE, SPACING_MM = (48, 40, 14), (4.0, 4.5, 6.0)
GRID = Grid(SHAPE, np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0]))

Score = Callable[[ModelId, str, str, str], float]
"""From model, test site, case and structure to a Dice."""


def organ(shift_mm: float = 0.0, grow: float = 1.0) -> Volume:
    """A kidney (1) with a tumor (2) in it, moved along the first axis."""
    index = np.indices(SHAPE).astype(float) * np.reshape(SPACING_MM, (3, 1, 1, 1))
    index[0] -= shift_mm

    def ball(centre: Sequence[float], radius_mm: float) -> np.ndarray:
        offset = index - np.reshape(centre, (3, 1, 1, 1))
        return (offset**2).sum(axis=0) <= (grow * radius_mm) ** 2

    label = np.zeros(SHAPE, dtype=np.uint8)
    label[ball((80, 90, 40), 34)] = 1
    label[ball((104, 84, 42), 16)] = 2
    return Volume(label[None], GRID)


def picture(label: Volume, seed: int) -> Volume:
    """A CT-like image of it: an oval body in air, with noise."""
    i, j = np.indices(SHAPE[:2])
    body = ((i - 24) / 22) ** 2 + ((j - 20) / 18) ** 2 <= 1
    hu = np.where(body, 30.0, -1000.0)[..., None] + np.select(
        [label.data[0] == 1, label.data[0] == 2], [130.0, 70.0], 0.0
    )
    hu = hu + np.random.default_rng(seed).normal(scale=20.0, size=SHAPE)
    return Volume(hu[None].astype(np.float32), GRID)


def write_run(
    root: Path,
    *,
    dice: Score,
    cases: Mapping[str, int],
    external: Mapping[str, int],
    arms: tuple[str, ...] = ("manual", "assisted"),
    regimes: tuple[str, ...] = ("local", "pooled", "ensemble", "federated"),
    seeds: tuple[int, ...] = (0,),
    rounds: int = 4,
    with_volumes: bool = False,
    warnings: tuple[str, ...] = (),
    not_run: Callable[[ModelId], bool] = lambda _: False,
) -> Path:
    """Write the records of a study into ``root / "run"``, with Dice values from a function.

    Args:
        root: Where run folder and sites go.
        dice: The Dice of every model on every case.
        cases: Number of test cases of each participating site.
        external: The same for external sites.
        arms: Label arms.
        regimes: Training regimes.
        seeds: Training seeds.
        rounds: Rounds of each federated training.
        with_volumes: Write sites with images, labels and predictions as well.
        warnings: What the run warned of.
        not_run: Which models are left out, as by ``--only``.
    """
    run = root / "run"
    settings = StudySettings(
        name="hand-made",
        task="kidney_tumor",
        sites=tuple(root / name for name in cases),
        external_sites=tuple(root / name for name in external),
        arms=arms,  # type: ignore[arg-type]
        regimes=regimes,  # type: ignore[arg-type]
        seeds=seeds,
        budget=Budget(rounds=rounds, steps_per_round=20),
        evaluation=EvaluationSettings(n_bootstrap=500),
    )
    named = (
        *untrained_models(settings),
        *trained_models(settings, sites=tuple(cases)),
        *ensemble_models(settings),
    )
    models = tuple(model for model in named if not not_run(model))
    left_out = tuple(model for model in named if not_run(model))
    tests = {
        site: [f"{site}_{number:02d}" for number in range(count)]
        for site, count in {**cases, **external}.items()
    }
    rows = [
        ScoreRow(
            model.regime, model.arm, model.seed, model.train_site, site, site in external,
            case, structure, metric, value,
        )
        for model in models
        for site, names in tests.items()
        for case in names
        for structure in STRUCTURES
        for metric, value in _metrics(dice(model, site, case, structure), int(case[-2:]) + 1)
    ]  # fmt: skip
    write_rows(run / SCORES_FILE, rows, ScoreRow)
    write_rows(run / LABELS_FILE, _labels(cases, arms), LabelRow)
    for model in models:
        if model.regime == "federated":
            _write_rounds(run / model.folder, tuple(cases), rounds)
    references = _write_volumes(root, run, models, tests, external) if with_volumes else {}
    write_study(
        run, _record(root, settings, models, cases, external, tests, references, warnings, left_out)
    )
    return run


def _metrics(dice: float, number: int) -> list[tuple[str, float]]:
    """The metrics of a case: the surface ones follow from Dice by a made-up rule, the reference
    has 1 ml in the first case, 2 in the second and so on, and predictions are 10 % too large.
    """
    hd95_mm = float("inf") if dice == 0 else 40 * (1 - dice)
    return [
        ("dice", dice),
        ("surface_dice", dice**2),
        ("hd95_mm", hd95_mm),
        ("volume_difference_mm3", 100.0 * number),
        ("reference_mm3", 1000.0 * number),
    ]


def _labels(cases: Mapping[str, int], arms: tuple[str, ...]) -> list[LabelRow]:
    """Training labels: manual ones take 600 s, assisted ones 300 s; every fourth is accepted."""
    rows = []
    for site, count in cases.items():
        for number in range(count):
            for arm in arms:
                proposal = "p" * 64 if arm == "assisted" else None
                accepted = arm == "assisted" and number % 4 == 0
                origin = "ai_accepted" if accepted else "ai_corrected" if proposal else "manual"
                rows.append(
                    LabelRow(
                        site=site,
                        case=f"{site}_train_{number:02d}",
                        arm=arm,
                        reader=f"{site}-reader",
                        origin=origin,
                        image_sha256="1" * 64,
                        label_sha256="a" * 64,
                        proposal_sha256=proposal,
                        model_sha256="m" * 64 if proposal else None,
                        active_seconds=600.0 if arm == "manual" else 300.0,
                        changed_fraction=(0.0 if accepted else 0.04 * number) if proposal else None,
                        added_mm3=(0.0 if accepted else 100.0 * number) if proposal else None,
                        removed_mm3=(0.0 if accepted else 50.0 * number) if proposal else None,
                        added_path_length=(0 if accepted else 10 * number) if proposal else None,
                    )
                )
    return rows


def _write_rounds(folder: Path, sites: tuple[str, ...], rounds: int) -> None:
    """Metrics of a federated training: each site sends 1 kB up and down and takes 2 s a round."""
    lines = [
        RoundRecord(
            round=number,
            loss=1.0 / number,
            validation_dice=0.8 - 0.6 / number,
            sites={
                site: {"n_cases": 8.0, "seconds": 2.0, "bytes_down": 1000.0, "bytes_up": 1000.0}
                for site in sites
            },
            seconds=2.5,
        ).model_dump_json()
        for number in range(1, rounds + 1)
    ]
    write_text(folder / "metrics.jsonl", "\n".join(lines) + "\n")
    state = FederationState(
        manifest_sha256="f" * 64, rounds_done=rounds, best_round=rounds, finished=True
    )
    write_json(folder / "state.json", json.loads(state.model_dump_json()))


def _write_volumes(
    root: Path,
    run: Path,
    models: Sequence[ModelId],
    tests: Mapping[str, list[str]],
    external: Mapping[str, int],
) -> dict[str, str]:
    """Sites with images and hand-drawn test labels, and a prediction of every model.

    Returns:
        Hash of each case's label.
    """
    task = load_task("kidney_tumor")
    references = {}
    for site_name, names in tests.items():
        site = create_site(
            root / site_name,
            SiteSettings(
                name=site_name, task=task.name, data="synthetic", external=site_name in external
            ),
        )
        for number, case in enumerate(names):
            add_case(
                site.folder,
                task=task,
                case_id=case,
                patient_id=case,
                split="test",
                channels={"ct": picture(organ(shift_mm=4.0 * number), number)},
            )
        site = load_site(site.folder)
        for number, case in enumerate(names):
            submitted = submit_label(
                site,
                case_id=case,
                label=organ(shift_mm=4.0 * number),
                origin="manual",
                reader="manual-reader",
            )
            references[case] = submitted.label_sha256
            for model in models:
                worse = {"manual": 1.05, "assisted": 0.93}.get(model.arm, 0.6)
                predicted = organ(shift_mm=4.0 * number + 3.0, grow=worse)
                write_label(predicted, run / model.predictions / site_name / f"{case}.nii.gz")
    return references


def _record(
    root: Path,
    settings: StudySettings,
    models: Sequence[ModelId],
    cases: Mapping[str, int],
    external: Mapping[str, int],
    tests: Mapping[str, list[str]],
    references: Mapping[str, str],
    warnings: tuple[str, ...],
    left_out: Sequence[ModelId],
) -> StudyRecord:
    """``study.json`` of the run."""
    return StudyRecord(
        settings=settings,
        task=load_task("kidney_tumor"),
        plan={"spacing_mm": [4.0, 4.0, 4.0], "patch_voxels": [32, 32, 32]},
        plan_sha256="c" * 64,
        budget_steps={"local": 80, "pooled": 80 * len(cases), "federated": 80 * len(cases)},
        versions={"segfed": "0.1.0", "python": "3.11"},
        device="cpu",
        sites=tuple(
            SiteRecord(
                name=name,
                folder=root / name,
                data="synthetic",
                external=name in external,
                n_train={} if name in external else dict.fromkeys(settings.arms, count),
                n_validation=0 if name in external else 2,
                n_test=count,
            )
            for name, count in {**cases, **external}.items()
        ),
        models=tuple(
            ModelRecord(
                regime=model.regime,
                arm=model.arm,
                seed=model.seed,
                train_site=model.train_site,
                sha256="d" * 64,
                steps=0 if model.regime == "untrained" else 80,
                seconds=12.0,
                n_cases=8,
            )
            for model in models
        ),
        test_cases=tuple(
            TestCaseRecord(
                site=site,
                case=case,
                image_sha256="1" * 64,
                reference_sha256=references.get(case, "2" * 64),
            )
            for site, names in tests.items()
            for case in names
        ),
        warnings=warnings,
        not_run=tuple(StudyModel(**vars(model)) for model in left_out),
    )
