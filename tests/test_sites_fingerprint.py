"""Fingerprints: what they measure, what they withhold, and whose damage they name."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from segfed.errors import CaseError, ConfigError
from segfed.sites import (
    Site,
    fingerprint_site,
    load_site,
    merged,
    read_fingerprint,
    store_label,
    submit_label,
    write_fingerprint,
)
from segfed.volumes import Grid, Volume, write_image
from tests.fingerprint_samples import CtCase, make_ct_site
from tests.sites_samples import make_label, make_site, new_label

THIN = CtCase((20, 24, 16), (0.75, 0.75, 2.5), seed=1)
THICK = CtCase((20, 24, 16), (0.5, 0.5, 5.0), seed=2, label_values=(1,))


@pytest.fixture
def site(tmp_path) -> Site:
    return make_ct_site(tmp_path, "north", [THIN, THIN, THICK])


def test_each_case_counts_once_along_every_axis(site):
    fingerprint = fingerprint_site(site)

    assert fingerprint.n_cases == 3
    assert fingerprint.spacing_mm[2].values == (2.5, 5.0)
    assert fingerprint.spacing_mm[2].counts == (2, 1)
    # 16 x 2.5 mm = 40 mm and 16 x 5 mm = 80 mm, to the next power of 1.05
    assert fingerprint.extent_mm[2].values == pytest.approx((40, 80), rel=0.025)


def test_axes_are_those_of_the_patient_and_not_of_the_file(tmp_path):
    # I runs to the back with 1 mm, J to the right with 1.5 mm, K up with 2.5 mm
    site = make_site(tmp_path, splits=("train",))
    submit_label(site, case_id="case0", label=make_label(), origin="manual", reader="ann")

    fingerprint = fingerprint_site(site)

    assert [axis.values for axis in fingerprint.spacing_mm] == [(1.5,), (1.0,), (2.5,)]
    assert [axis.values[0] for axis in fingerprint.size_voxels] == pytest.approx(
        [6, 7, 5], rel=0.025
    )
    assert fingerprint.intensity_hu is None  # MR


def test_intensities_are_those_inside_the_structures(site):
    measured = fingerprint_site(site).intensity_hu

    assert measured is not None
    # Every case counts alike, so the pool takes as many voxels of each: all of them have
    # their own number, and are repeated up to a common one
    cases = [THIN.inside_hu(), THIN.inside_hu(), THICK.inside_hu()]
    common = np.lcm.reduce([len(case) for case in cases])
    pooled = np.concatenate([np.repeat(case, common // len(case)) for case in cases])
    for fraction in (0.005, 0.5, 0.995):
        assert measured.quantile(fraction) == pytest.approx(np.quantile(pooled, fraction), abs=2)


def test_volumes_are_those_of_the_cases_that_have_the_structure(site):
    # mass {2, 3}: 2 x 3 x 16 voxels of 0.75 x 0.75 x 2.5 mm = 135 mm3, to a power of two
    fingerprint = fingerprint_site(site)

    assert fingerprint.volume_ml["mass"].values == (0.125,)
    assert fingerprint.volume_ml["mass"].counts == (2,)
    assert fingerprint.volume_ml["kidney_and_mass"].total == 3


def test_two_sites_give_what_their_pooled_cases_would(tmp_path):
    one = fingerprint_site(make_ct_site(tmp_path, "one", [THIN]))
    two = fingerprint_site(make_ct_site(tmp_path, "two", [THICK, THIN]))
    pooled = fingerprint_site(make_ct_site(tmp_path, "pooled", [THIN, THICK, THIN]))

    assert merged([one.extent_mm[2], two.extent_mm[2]]) == pooled.extent_mm[2]
    assert one.intensity_hu
    assert two.intensity_hu
    assert merged([one.intensity_hu, two.intensity_hu]) == pooled.intensity_hu


def test_too_few_cases_are_refused(tmp_path):
    site = make_ct_site(tmp_path, "small", [THIN, THIN], minimum_cases=3)

    with pytest.raises(CaseError, match=r"2 training case.*at least 3.*minimum_metric_cases"):
        fingerprint_site(site)


def test_what_too_few_cases_have_is_withheld(tmp_path):
    site = make_ct_site(tmp_path, "north", [THIN, THICK, THICK], minimum_cases=2)

    fingerprint = fingerprint_site(site)

    assert fingerprint.withheld == ("mass", "tumor")
    assert set(fingerprint.volume_ml) == {"kidney_and_mass"}


def test_intensities_of_too_few_labelled_cases_are_withheld(tmp_path):
    unlabelled = CtCase(THIN.shape, THIN.spacing_mm, labelled=False)
    site = make_ct_site(tmp_path, "north", [THIN, unlabelled], minimum_cases=2)

    fingerprint = fingerprint_site(site)

    assert fingerprint.n_cases == 2
    assert fingerprint.intensity_hu is None
    assert fingerprint.volume_ml == {}


def test_a_structure_in_no_case_is_withheld_and_stops_nothing(tmp_path):
    site = make_ct_site(tmp_path, "north", [THICK])

    assert fingerprint_site(site).withheld == ("mass", "tumor")


def test_nothing_names_a_case(site):
    text = json.dumps(fingerprint_site(site).as_json())

    assert not any(case.case_id in text for case in site.cases)


def test_every_damaged_case_is_named(site):
    constant, truncated = (site.case(name).channels["ct"] for name in ("north0", "north2"))
    write_image(Volume(np.full((1, *THIN.shape), 7, np.float32), THIN.grid()), constant)
    truncated.write_bytes(truncated.read_bytes()[:-40])

    with pytest.raises(CaseError) as refusal:
        fingerprint_site(site)

    text = str(refusal.value)
    assert "2 of 3 training cases" in text
    assert "Case north0: Channel ct holds 7 in every voxel" in text
    assert "north2" in text
    assert "north1" not in text


def test_nan_and_four_axes_are_refused_by_name(site):
    first, second = (site.case(name).channels["ct"] for name in ("north0", "north1"))
    nib.save(nib.Nifti1Image(np.full(THIN.shape, np.nan, np.float32), THIN.grid().affine), first)
    nib.save(nib.Nifti1Image(np.zeros((*THIN.shape, 2), np.float32), THIN.grid().affine), second)

    with pytest.raises(CaseError, match=r"(?s)2 of 3.*north0.*north1"):
        fingerprint_site(site)


def test_a_label_on_another_grid_is_refused_by_name(site):
    moved = Volume(THIN.label(), Grid(THIN.shape, np.diag([1.0, 1.0, 1.0, 1.0])))
    sha256 = store_label(site.folder, moved)
    site.ledger().append(new_label(sha256, case_id="north1"))

    with pytest.raises(CaseError, match=r"north1.*another grid"):
        fingerprint_site(load_site(site.folder))


def test_progress_is_told_after_every_case(site):
    seen = []

    fingerprint_site(site, on_case=lambda done, total: seen.append((done, total)))

    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_number_of_readers_changes_nothing(site):
    assert fingerprint_site(site, workers=1) == fingerprint_site(site, workers=3)


def test_a_fingerprint_survives_its_file(site, tmp_path):
    fingerprint = fingerprint_site(site)

    write_fingerprint(fingerprint, tmp_path / "f.json")

    assert read_fingerprint(tmp_path / "f.json") == fingerprint


def test_a_fingerprint_that_was_edited_is_refused(site, tmp_path):
    path = tmp_path / "f.json"
    write_fingerprint(fingerprint_site(site), path)
    path.write_text(path.read_text().replace('"arm": "manual"', '"arm": "assisted"'))

    with pytest.raises(ConfigError, match="changed after it was written"):
        read_fingerprint(path)


@pytest.mark.parametrize(("found", "instead"), [('"n_cases": 3', '"n_cases": 30'), ("0.5", "-0.5")])
def test_a_fingerprint_that_cannot_be_is_refused(site, tmp_path, found, instead):
    path = tmp_path / "f.json"
    write_fingerprint(fingerprint_site(site), path)
    path.write_text(path.read_text().replace(found, instead, 1))

    with pytest.raises(ConfigError, match=r"spacing_mm counts 3.*expected 30? positive"):
        read_fingerprint(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_file_that_is_no_fingerprint_is_refused(tmp_path, text):
    (tmp_path / "f.json").write_text(text)

    with pytest.raises(ConfigError, match=r"f\.json"):
        read_fingerprint(tmp_path / "f.json")
    with pytest.raises(ConfigError, match="site fingerprint"):
        read_fingerprint(tmp_path / "absent.json")
