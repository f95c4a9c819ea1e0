"""What the images that a study's models learned from look like, kept beside each model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segfed.engine import prepare
from segfed.engine.drift import Features, image_features, input_range
from segfed.files import write_text
from segfed.study.models import UNTRAINED, arm_choice
from segfed.study.preflight import SiteLabels
from segfed.study.records import RANGE_FILE, ModelRecord
from segfed.study.run import StudyRun
from segfed.volumes import read_grid


def write_input_ranges(run: StudyRun, records: Sequence[ModelRecord]) -> None:
    """Note beside each trained model what its training images look like, where it is not yet.

    A model that is trained anew begins with an empty folder, so that a note always fits its model.
    """
    seen: dict[tuple[str, str], list[Features]] = {}
    for record in records:
        path = run.out / record.model_id.folder / RANGE_FILE
        if record.regime in (UNTRAINED, "ensemble") or path.exists():
            continue
        cases: list[Features] = []
        for site in run.data.sites:
            if record.regime != "local" or site.site.name == record.train_site:
                key = (site.site.name, record.arm)
                if key not in seen:
                    seen[key] = _features_of(run, site, record.arm)
                cases += seen[key]
        write_text(path, input_range(cases).model_dump_json(indent=2) + "\n")


def _features_of(run: StudyRun, site: SiteLabels, arm: str) -> list[Features]:
    """Of each training image of a site, from the site's own cache."""
    labelled = site.train[arm_choice(arm)]
    channel = site.site.task.display_channel
    return [
        image_features(
            np.asarray(case.image), grid=read_grid(item.case.channels[channel]), plan=run.plan
        )
        for item, case in zip(
            labelled, prepare(labelled, run.plan, site.site.folder / "cache"), strict=True
        )
    ]
