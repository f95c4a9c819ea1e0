"""Small sites that a study can really train on, and a federation that only pretends to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from segfed.files import write_text
from segfed.protocol import FederationJob, FederationState, RoundRecord
from segfed.sites import Site, SiteSettings, add_case, create_site, load_site, submit_label
from segfed.study.settings import Budget, StudySettings
from segfed.volumes import Grid, Volume
from tests.model_samples import publish_untrained

SHAPE = (18, 14, 12)
GRID = Grid(SHAPE, np.diag([4.0, 5.0, 6.0, 1.0]))
SPLITS = ("train", "train", "validation", "test", "test")
PLAN = {
    "spacing_mm": (4.0, 5.0, 6.0),
    "patch_voxels": (16, 8, 8),
    "features": (4, 8),
    "batch_size": 1,
}


def block(start: int) -> Volume:
    """A kidney (1) of 6 x 5 x 4 voxels with a tumor (2) of 2 x 2 x 2 in its first corner."""
    label = np.zeros((1, *SHAPE), dtype=np.uint8)
    label[0, start : start + 6, 4:9, 4:8] = 1
    label[0, start : start + 2, 4:6, 4:6] = 2
    return Volume(label, GRID)


def image_of(label: Volume, seed: int) -> Volume:
    """Soft tissue in which the kidney is bright and the tumor grey."""
    hu = np.select([label.data == 1, label.data == 2], [180.0, 100.0], 30.0)
    hu = hu + np.random.default_rng(seed).normal(scale=10.0, size=hu.shape)
    return Volume(hu.astype(np.float32), GRID)


def make_site(
    root: Path, name: str, *, seed: int, external: bool = False, splits: tuple[str, ...] = SPLITS
) -> Site:
    """A site with one hand-drawn label a case; an external one has test cases only."""
    site = create_site(
        root / name,
        SiteSettings(name=name, task="kidney_tumor", data="synthetic", external=external),
    )
    for number, split in enumerate("test" if external else s for s in splits):
        case = f"{name}-{number}"
        add_case(
            site.folder,
            task=site.task,
            case_id=case,
            patient_id=case,
            split=split,  # type: ignore[arg-type]
            channels={"ct": image_of(block(2 + number), 10 * seed + number)},
        )
    site = load_site(root / name)
    for number, case in enumerate(site.cases):
        submit_label(
            site,
            case_id=case.case_id,
            label=block(2 + number),
            origin="manual",
            reader="manual-reader",
        )
    return site


def make_settings(root: Path, **changes: object) -> StudySettings:
    """A study of two sites and one external one, small enough to train within seconds."""
    settings = StudySettings(
        name="small",
        task="kidney_tumor",
        sites=(root / "a", root / "b"),
        external_sites=(root / "x",),
        budget=Budget(rounds=1, steps_per_round=2, pooled_steps=3),
        plan=PLAN,
        device="cpu",
    )
    return settings.model_copy(update=changes)


def make_sites(root: Path) -> tuple[Site, Site, Site]:
    """Sites ``a`` and ``b`` that train, and the external site ``x``."""
    return (
        make_site(root, "a", seed=1),
        make_site(root, "b", seed=2),
        make_site(root, "x", seed=3, external=True),
    )


def pretend_federation(
    job: FederationJob, *, on_round: Callable[[RoundRecord], None]
) -> FederationState:
    """One round that returns the weights it was given, in the files of a real federation."""
    weights = job.initial_weights.read_bytes()
    (job.out / "round_001.safetensors").write_bytes(weights)
    record = RoundRecord(
        round=1,
        loss=1.0,
        validation_dice=0.1,
        sites={
            "a": {"seconds": 1.0, "bytes_up": 10.0, "bytes_down": 20.0, "steps": 2.0},
            "b": {"steps": 2.0},
        },
        seconds=1.5,
    )
    write_text(job.out / "metrics.jsonl", record.model_dump_json() + "\n")
    state = FederationState(
        manifest_sha256=job.manifest.sha256, rounds_done=1, best_round=1, finished=True
    )
    write_text(job.out / "state.json", state.model_dump_json())
    on_round(record)
    return state


def approve(site: Site, *numbers: int) -> None:
    """Submit a hand label for each of these cases of a site, as a reviewer approved it."""
    for number in numbers:
        submit_label(
            site,
            case_id=f"{site.name}-{number}",
            label=block(2 + number),
            origin="manual",
            reader="manual-reader",
            status="approved",
        )


def publish_start(site: Site, folder: Path, *, arm: str = "manual", seed: int = 0) -> str:
    """Publish a model of other sites, from which a site's own training starts; returns its hash."""
    return publish_untrained(
        site,
        folder,
        seed=seed,
        plan=PLAN,
        arm=arm,
        sites=("elsewhere",),
        data=("real",),
        train_images={"elsewhere": ("f" * 64,)},
    )
