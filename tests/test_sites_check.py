"""The preflight: every defect is found, and named with its case."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest

from segfed.errors import CaseError
from segfed.sites import (
    Site,
    SiteSettings,
    add_case,
    check_site,
    create_site,
    load_site,
    require_ready,
    store_label,
    submit_label,
)
from segfed.volumes import Volume, write_image
from tests.sites_samples import SHAPE, make_grid, make_image, make_label, make_site, new_label


@pytest.fixture
def site(tmp_path) -> Site:
    site = make_site(tmp_path)
    for case in site.cases:
        submit_label(site, case_id=case.case_id, label=make_label(), origin="manual", reader="ann")
    return site


def brain_site(folder) -> Site:
    site = create_site(folder / "south", SiteSettings(name="south", task="brain_tumor"))
    add_case(
        site.folder,
        task=site.task,
        case_id="b1",
        patient_id="p1",
        split="train",
        channels={channel: make_image(seed) for seed, channel in enumerate(site.task.channels)},
    )
    return load_site(site.folder)


def the_problem(site: Site) -> tuple[str, str]:
    (problem,) = check_site(site)
    return problem.case_id, problem.message


def test_a_sound_site_has_no_problems(site):
    seen = []

    assert check_site(site, on_case=lambda done, total: seen.append((done, total))) == ()
    assert seen == [(1, 2), (2, 2)]
    require_ready([site])


def test_a_missing_image_is_named(site):
    site.case("case1").channels["t1"].unlink()

    case_id, message = the_problem(site)

    assert case_id == "case1"
    assert "case1.nii.gz" in message


def test_a_truncated_image_is_named(site):
    path = site.case("case1").channels["t1"]
    path.write_bytes(path.read_bytes()[:-40])

    case_id, message = the_problem(site)

    assert case_id == "case1"
    assert "case1.nii.gz" in message


def test_an_image_with_nan_is_named(site):
    path = site.case("case0").channels["t1"]
    nib.save(nib.Nifti1Image(np.full(SHAPE, np.nan, np.float32), make_grid().affine), path)

    assert the_problem(site)[0] == "case0"


def test_an_image_that_changed_since_its_import_is_named(site):
    write_image(make_image(seed=99), site.case("case0").channels["t1"])

    assert "case0.nii.gz has image hash" in the_problem(site)[1]


def test_a_missing_channel_and_a_moved_one_are_named(tmp_path):
    site = brain_site(tmp_path)
    path = site.case("b1").channels["t2f"]

    write_image(Volume(make_image().data, make_grid(shift_mm=5)), path)
    assert "t2f" in the_problem(site)[1]
    assert "another grid" in the_problem(site)[1]
    shutil.rmtree(path.parent)
    assert "Case b1" in the_problem(site)[1] or "/b1/" in the_problem(site)[1]
    assert "t1n" in the_problem(site)[1]


def test_a_label_on_another_grid_is_named(site):
    moved = store_label(site.folder, Volume(make_label().data, make_grid(shift_mm=5)))
    site.ledger().append(new_label(moved))

    case_id, message = the_problem(site)

    assert case_id == "case0"
    assert "another grid" in message


def test_a_label_with_an_unknown_value_is_named(site):
    odd = store_label(site.folder, make_label(core_value=9))
    site.ledger().append(new_label(odd))

    assert "holds the label value(s) [9]" in the_problem(site)[1]


def test_a_missing_proposal_and_one_on_another_grid_are_named(site):
    moved = store_label(site.folder, Volume(make_label().data, make_grid(shift_mm=5)))
    corrected = site.ledger().records("case0")[0].label_sha256
    site.ledger().append(
        new_label(corrected, origin="corrected", arm="assisted", proposal_sha256=moved)
    )

    assert "another grid" in the_problem(site)[1]
    site.ledger().label_path(moved).unlink()
    # One from the chain, and one that says whose proposal it was
    assert [problem.case_id for problem in check_site(site)] == ["", "case0"]


def test_a_broken_ledger_is_named(site):
    sha256 = site.ledger().records("case0")[0].label_sha256
    site.ledger().label_path(sha256).write_bytes(b"altered")

    problems = check_site(site)

    # One from the chain, and one for each of the two cases whose equal labels share the file
    assert [problem.case_id for problem in problems] == ["", "case0", "case1"]


def test_a_site_without_cases_is_named(tmp_path):
    site = create_site(tmp_path / "empty", SiteSettings(name="empty", task="kidney_tumor"))

    assert the_problem(site) == ("", "Site empty has no case. Import some first.")


def test_all_problems_of_all_sites_are_refused_at_once(site, tmp_path):
    site.case("case1").channels["t1"].unlink()
    empty = create_site(tmp_path / "empty", SiteSettings(name="empty", task="kidney_tumor"))

    with pytest.raises(CaseError, match=r"2 problem\(s\)(.|\n)*north: .*case1(.|\n)*empty: "):
        require_ready([site, empty])
