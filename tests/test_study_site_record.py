"""Patients are counted by split, spacings by their range, and nobody is named."""

from __future__ import annotations

import numpy as np

from segfed.sites import add_case, load_site, submit_label
from segfed.study.preflight import check_study
from segfed.study.site_record import site_record
from segfed.volumes import Grid, Volume
from tests.study_samples import block, image_of, make_settings, make_sites


def labels_at(root, name):
    data = check_study(make_settings(root))
    return next(item for item in data.everywhere if item.site.name == name)


def add(root, *, case, patient, split, spacing_mm):
    """One more case of site a, on a grid of its own."""
    site = load_site(root / "a")
    grid = Grid(block(2).grid.shape, np.diag([*spacing_mm, 1.0]))
    image, label = image_of(block(2), seed=len(site.cases) + 50), block(2)
    add_case(
        site.folder,
        task=site.task,
        case_id=case,
        patient_id=patient,
        split=split,
        channels={"ct": Volume(image.data, grid)},
    )
    submit_label(
        load_site(site.folder),
        case_id=case,
        label=Volume(label.data, grid),
        origin="manual",
        reader="manual-reader",
    )


def test_a_patient_with_two_cases_counts_once(tmp_path):
    make_sites(tmp_path)
    add(tmp_path, case="again", patient="a-0", split="train", spacing_mm=(4.0, 5.0, 6.0))

    found = site_record(labels_at(tmp_path, "a"), external=False)

    # The site has 2 training, 1 validation and 2 test cases, one a patient, and one more of a-0.
    assert found.n_train == {"manual": 3}
    assert found.patients.splits == {"train": 2, "validation": 1, "test": 2}
    assert found.patients.total == 5


def test_spacings_range_over_the_finest_and_the_coarsest_axis(tmp_path):
    make_sites(tmp_path)
    add(tmp_path, case="fine", patient="new", split="test", spacing_mm=(7.0, 5.0, 3.0))

    found = site_record(labels_at(tmp_path, "a"), external=False)

    # The other cases have 4 x 5 x 6 mm.
    assert found.finest_axis_mm == (3.0, 4.0)
    assert found.coarsest_axis_mm == (6.0, 7.0)


def test_an_external_site_has_no_training_labels(tmp_path):
    make_sites(tmp_path)

    found = site_record(labels_at(tmp_path, "x"), external=True)

    assert (found.external, found.n_train, found.patients.splits) == (True, {}, {"test": 5})


def test_a_patient_without_labels_counts_for_the_separation(tmp_path):
    make_sites(tmp_path)
    site = load_site(tmp_path / "a")
    add_case(
        site.folder,
        task=site.task,
        case_id="unread",
        patient_id="unread",
        split="warmup",
        channels={"ct": image_of(block(2), seed=99)},
    )

    found = site_record(labels_at(tmp_path, "a"), external=False)

    assert found.patients.splits["warmup"] == 1
    assert found.patients.total == 6
