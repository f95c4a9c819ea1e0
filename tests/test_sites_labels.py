"""Labels on their way in and out of a site."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from segfed.errors import CaseError, GeometryError, LabelError, LedgerError, VolumeError
from segfed.sites import Site, store_label, submit_label
from segfed.volumes import Volume, read_grid, read_label, write_label
from tests.sites_samples import NOON, SHAPE, make_grid, make_label, make_site


@pytest.fixture
def site(tmp_path) -> Site:
    return make_site(tmp_path)


def submit(site: Site, **changes):
    fields = {
        "case_id": "case0",
        "label": make_label(),
        "origin": "manual",
        "reader": "ann",
        "submitted_at": NOON,
    }
    return submit_label(site, **(fields | changes))


def test_a_label_is_stored_under_its_hash_and_recorded(site):
    record = submit(site, active_seconds=40.0)

    path = site.folder / "labels" / f"{record.label_sha256}.nii.gz"
    np.testing.assert_array_equal(read_label(path).data, make_label().data)
    assert record.image_sha256 == site.case("case0").image_sha256
    assert (record.arm, record.status, record.active_seconds) == ("manual", "submitted", 40.0)
    site.ledger().verify()


def test_equal_labels_share_one_file_whatever_they_came_as(site, tmp_path):
    write_label(make_label(), tmp_path / "drawn.nrrd")
    as_float = tmp_path / "float.nii"
    nib.save(nib.Nifti1Image(make_label().data[0].astype(np.float32), make_grid().affine), as_float)
    wide = Volume(make_label().data.astype(np.int16), make_grid())

    hashes = {
        submit(site, label=label).label_sha256
        for label in (make_label(), tmp_path / "drawn.nrrd", as_float, wide)
    }

    assert len(hashes) == 1
    assert [path.name for path in (site.folder / "labels").iterdir()] == [f"{hashes.pop()}.nii.gz"]


def test_a_grid_that_is_off_by_rounding_becomes_the_images_own(site):
    rounded = Volume(make_label().data, make_grid(shift_mm=0.004))

    record = submit(site, label=rounded)

    stored = read_grid(site.ledger().label_path(record.label_sha256))
    image = read_grid(site.case("case0").channels["t1"])
    np.testing.assert_array_equal(stored.affine, image.affine)


def test_a_damaged_label_file_is_replaced_when_the_same_label_comes_again(site):
    sha256 = store_label(site.folder, make_label())
    path = site.ledger().label_path(sha256)
    path.write_bytes(b"damaged")

    assert store_label(site.folder, make_label()) == sha256
    assert read_label(path).data.max() == 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"case_id": "case9"}, CaseError, "no case 'case9'"),
        (
            {"label": Volume(make_label().data, make_grid(shift_mm=4))},
            GeometryError,
            "label of case case0 is on another grid",
        ),
        ({"label": make_label(core_value=7)}, LabelError, r"case0.*\[7\].*1 skin, 2 core"),
        ({"proposal_sha256": "5" * 64}, LedgerError, "case0.*555.*Store the proposal first"),
    ],
)
def test_what_cannot_be_a_label_of_the_case_leaves_no_trace(site, changes, error, message):
    with pytest.raises(error, match=message):
        submit(site, **changes)

    assert site.ledger().records() == ()
    assert not (site.folder / "labels").exists()


def test_a_file_that_is_no_label_is_refused(site, tmp_path):
    path = tmp_path / "text.nii.gz"
    path.write_text("no label")
    with pytest.raises(VolumeError, match=r"text\.nii\.gz"):
        submit(site, label=path)

    nib.save(nib.Nifti1Image(np.full(SHAPE, 0.5, np.float32), make_grid().affine), path)
    with pytest.raises(VolumeError, match=r"text\.nii\.gz"):
        submit(site, label=path)


@pytest.mark.parametrize(
    ("origin", "assigned", "stated", "expected"),
    [
        ("manual", None, None, ("manual", "submitted")),
        ("ai_corrected", None, None, ("assisted", "submitted")),
        ("ai_accepted", "assisted", None, ("assisted", "submitted")),
        ("manual", "manual", "manual", ("manual", "submitted")),
        # drawn by hand although a proposal should have been corrected, and the reverse
        ("manual", "assisted", None, ("assisted", "flagged")),
        ("ai_corrected", "manual", None, ("manual", "flagged")),
        ("ai_corrected", "manual", "assisted", ("manual", "flagged")),
        ("manual", "assisted", "manual", ("assisted", "flagged")),
        # the program that submits thinks of another arm than the assignment
        ("manual", "manual", "assisted", ("manual", "flagged")),
        ("ai_corrected", None, "manual", ("manual", "flagged")),
    ],
)
def test_the_assignment_gives_the_arm_and_a_contradiction_is_flagged(
    site, origin, assigned, stated, expected
):
    if assigned:
        site.ledger().assign("ann", "case0", assigned)

    record = submit(site, origin=origin, arm=stated)

    assert (record.arm, record.status) == expected
    assert record.assignment == (1 if assigned else None)


def test_a_rejection_stays_a_rejection(site):
    site.ledger().assign("ann", "case0", "assisted")

    assert submit(site, status="rejected").status == "rejected"
