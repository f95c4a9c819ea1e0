"""What a run records of a site: who and how many took part, and no patient's name."""

from __future__ import annotations

from typing import get_args

from segfed.protocol import Split
from segfed.sites import LabelledCase, Site
from segfed.study.preflight import SiteLabels
from segfed.study.records import PatientCounts, SiteRecord
from segfed.volumes import read_grid


def site_record(labels: SiteLabels, *, external: bool) -> SiteRecord:
    """A site as it takes part in a study.

    Args:
        labels: The site's labels that count.
        external: Whether its cases are only tested on.

    Raises:
        VolumeError: If the header of an image cannot be read.
    """
    site = labels.site
    finest, coarsest = _spacing_ranges(labels)
    return SiteRecord(
        name=site.name,
        folder=site.folder,
        data=site.settings.data,
        external=external,
        n_train={arm: len(labelled) for arm, labelled in labels.train.items()},
        n_validation=len(labels.validation),
        n_test=len(labels.test),
        patients=_count_patients(site),
        finest_axis_mm=finest,
        coarsest_axis_mm=coarsest,
    )


def _count_patients(site: Site) -> PatientCounts:
    """Patients of all the site's cases, whether they have labels or not."""
    splits = {
        split: {case.patient_id for case in site.split(split)}
        for split in get_args(Split)
        if site.split(split)
    }
    return PatientCounts(
        splits={split: len(patients) for split, patients in splits.items()},
        total=len({patient for patients in splits.values() for patient in patients}),
    )


def _spacing_ranges(labels: SiteLabels) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges of the finest and the coarsest axis over the images in use."""
    used: tuple[LabelledCase, ...] = (
        *(labelled for arm in labels.train.values() for labelled in arm),
        *labels.validation,
        *labels.test,
    )
    channel = labels.site.task.display_channel
    images = {labelled.case.channels[channel] for labelled in used}
    spacings = [read_grid(image).spacing_mm for image in images]
    finest, coarsest = [min(spacing) for spacing in spacings], [max(s) for s in spacings]
    return (min(finest), max(finest)), (min(coarsest), max(coarsest))
