"""The site folder as MONAI Label sees it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from fastapi import HTTPException

from label_app.store import SiteDatastore
from segfed.sites import NewAssignment, store_label
from segfed.volumes import Volume, write_label
from tests.sites_samples import make_label, make_site

SEGMENTS = {"label_info": [{"name": "skin", "idx": 1}, {"name": "core", "idx": 2}]}


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path, splits=("train", "train", "test"))


@pytest.fixture
def store(site):
    return SiteDatastore(site.folder, reader=lambda: "ann")


@pytest.fixture
def upload(tmp_path):
    """Writes a label where MONAI Label would have put an upload."""

    def write(label: Volume | bytes):
        path = tmp_path / "upload.nii.gz"
        if isinstance(label, bytes):
            path.write_bytes(label)
        else:
            write_label(label, path)
        return str(path)

    return write


def save(store, path, case_id="case0", info=SEGMENTS):
    return store.save_label(case_id, path, "final", info)


def test_a_site_without_assignments_offers_all_its_cases(store, upload):
    save(store, upload(make_label()))

    assert store.get_unlabeled_images() == ["case1", "case2"]
    assert store.status() == {"total": 3, "completed": 1, "label_tags": {"final": 1}}


def test_a_reader_with_assignments_gets_only_those(site, store):
    site.ledger().assign("ann", "case1", "assisted")
    site.ledger().assign("bob", "case2", "assisted")

    assert store.list_images() == ["case1"]


def test_a_case_that_another_reader_has_open_is_not_offered(site, store, upload):
    bob = SiteDatastore(site.folder, reader=lambda: "bob")
    bob.open_case("case0")

    assert store.get_unlabeled_images() == ["case1", "case2"]
    assert bob.get_unlabeled_images() == ["case0", "case1", "case2"]
    save(bob, upload(make_label()))
    assert store.get_unlabeled_images() == ["case0", "case1", "case2"]


def test_idle_and_lease_limits_are_settings_of_the_site(site, store, upload):
    settings = site.folder / "site.toml"
    tiny = settings.read_text().replace("idle_minutes = 30.0", "idle_minutes = 1e-9")
    settings.write_text(tiny.replace("lease_hours = 8.0", "lease_hours = 1e-9"))
    bob = SiteDatastore(site.folder, reader=lambda: "bob")
    bob.open_case("case0")

    assert store.get_unlabeled_images()[0] == "case0"
    store.open_case("case0")
    save(store, upload(make_label()))
    record = store.last_record("case0")
    assert record.active_seconds < 1e-6 < record.elapsed_seconds


def test_in_the_second_period_the_first_ones_label_cannot_be_loaded(site, store, upload):
    site.ledger().assign_all(
        [
            NewAssignment("ann", "case0", "manual"),
            NewAssignment("ann", "case0", "assisted", period=2),
        ]
    )
    store.open_case("case0")
    save(store, upload(make_label()))

    assert store.last_record("case0").arm == "manual"
    assert store.get_unlabeled_images() == ["case0"]
    assert store.get_label_uri("case0", "final") == ""
    assert store.get_labels_by_image_id("case0") == {}


def test_a_submission_that_nobody_asked_for_is_kept_and_flagged(site, store, upload):
    site.ledger().assign("bob", "case0", "manual")

    save(store, upload(make_label()))

    assert (store.last_record("case0").status, store.list_images()) == ("flagged", [])


@pytest.mark.parametrize("before", ["manual", "assisted", None])
def test_a_new_assignment_brings_a_case_back_without_the_label_before(site, store, upload, before):
    if before is not None:
        site.ledger().assign("ann", "case0", before)
    save(store, upload(make_label()))
    assert "case0" not in store.get_unlabeled_images()

    site.ledger().assign("ann", "case0", "assisted" if before != "assisted" else "manual")

    assert store.get_unlabeled_images() == ["case0"]
    assert store.get_label_uri("case0", "final") == ""


def test_a_label_after_a_proposal_is_recorded_with_it(site, store, upload):
    proposal = store_label(site.folder, make_label(1))
    store.open_case("case0")
    store.note_proposal("case0", proposal_sha256=proposal, model_sha256="m" * 64)

    save(store, upload(make_label(2)))

    # The block of 3 x 3 x 3 voxels differs in its core alone.
    record = store.last_record("case0")
    assert (record.origin, record.reader, record.arm) == ("ai_corrected", "ann", "assisted")
    assert (record.proposal_sha256, record.model_sha256) == (proposal, "m" * 64)
    assert record.changed_fraction == pytest.approx(1 / 27)
    assert record.opened_at is not None
    assert record.active_seconds >= 0


def test_a_manual_label_in_the_assisted_arm_is_flagged(site, store, upload):
    site.ledger().assign("ann", "case0", "assisted")

    save(store, upload(make_label()))

    assert store.last_record("case0").status == "flagged"


def shifted(label: Volume) -> Volume:
    affine = label.grid.affine.copy()
    affine[0, 3] += 5
    return Volume(label.data, type(label.grid)(label.grid.shape, affine))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "empty file"),
        (b"not an image", "Cannot read the submitted label"),
        (shifted(make_label()), "draw on the image that Next Sample opens"),
        (make_label(3), "segment named 'value 3'"),
    ],
)
def test_a_bad_label_is_refused_in_words_and_the_good_one_stays(store, upload, bad, reason):
    save(store, upload(make_label()))
    before = store.last_record("case0")
    path = upload(bad)

    with pytest.raises(HTTPException) as refused:
        save(store, path)

    assert refused.value.status_code == 422
    assert reason in refused.value.detail
    assert path not in refused.value.detail
    assert store.last_record("case0") == before
    assert not (store.site_folder.parent / "upload.nii.gz").exists()


def test_a_label_whose_image_was_deleted_meanwhile_is_refused_in_words(site, store, upload):
    store.open_case("case0")
    save(store, upload(make_label()))
    before = store.last_record("case0")
    (site.folder / "images" / "case0.nii.gz").unlink()

    with pytest.raises(HTTPException, match=r"422.*case0\.nii\.gz"):
        save(store, upload(make_label()))

    assert store.last_record("case0") == before


def test_an_upload_is_removed_whatever_went_wrong(store, upload, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("label_app.store.submit_upload", full_disk)
    path = upload(make_label())

    with pytest.raises(OSError, match="No space"):
        save(store, path)

    assert not (store.site_folder.parent / "upload.nii.gz").exists()


def test_a_label_that_is_no_submission_is_refused(store, upload):
    with pytest.raises(HTTPException, match=r"422.*'original'"):
        store.save_label("case0", upload(make_label()), "original", SEGMENTS)

    assert store.last_record("case0") is None


def test_unknown_cases_are_not_found(store, upload):
    for unknown in ("nobody", "../case0", "/etc/hostname"):
        with pytest.raises(HTTPException) as refused:
            save(store, upload(make_label()), case_id=unknown)
        assert refused.value.status_code == 404
        assert store.get_image_uri(unknown) == ""
        assert store.get_label_uri(unknown, "final") == ""


def test_slicer_learns_the_images_name_and_checksum_but_no_path(site, store):
    content = (site.folder / "images" / "case0.nii.gz").read_bytes()

    info = store.get_image_info("case0")

    assert info["name"] == "case0.nii.gz"
    assert info["path"] == ""
    assert info["checksum"] == f"SHA256:{hashlib.sha256(content).hexdigest()}"


def test_only_the_readers_own_submission_can_be_had(site, store, upload):
    save(store, upload(make_label()))
    bob = SiteDatastore(site.folder, reader=lambda: "bob")

    assert store.get_label_uri("case0", "final").startswith(str(site.folder / "labels"))
    assert store.get_label_uri("case0", "original") == ""
    assert store.get_label_uri("case0", "../../images") == ""
    assert bob.get_label_uri("case0", "final") == ""


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("x")])
def test_a_case_whose_image_was_lost_or_altered_is_not_opened(site, store, damage):
    damage(site.folder / "images" / "case0.nii.gz")

    with pytest.raises(HTTPException, match=r"422.*case0.*Restore"):
        store.open_case("case0")


def test_a_damaged_case_comes_last_until_its_image_is_restored(site, store):
    path = site.folder / "images" / "case0.nii.gz"
    content = path.read_bytes()
    path.write_bytes(b"damaged")

    assert store.set_aside("case0")
    assert store.get_unlabeled_images() == ["case1", "case2"]
    assert not store.set_aside("case0"), "nothing has changed"
    path.write_bytes(content)
    assert store.get_unlabeled_images() == ["case0", "case1", "case2"]


def test_nothing_can_be_added_changed_or_removed(store):
    for attempt in (
        lambda: store.add_image("x", "/etc/hostname", {}),
        lambda: store.remove_image("case0"),
        lambda: store.remove_label("case0", "final"),
        lambda: store.update_label_info("case0", "final", {}),
        lambda: store.set_name("x"),
        lambda: store.set_description("x"),
        lambda: store.get_dataset_archive(None),
    ):
        with pytest.raises(HTTPException, match="403"):
            attempt()


def test_segments_in_another_order_are_stored_in_the_tasks_values(store, upload):
    swapped = make_label()
    data = np.array([0, 2, 1], dtype=np.uint8)[swapped.data]
    info = {"label_info": [{"name": "core", "idx": 1}, {"name": "skin", "idx": 2}]}

    save(store, upload(Volume(data, swapped.grid)), info=info)
    as_sent = store.last_record("case0").label_sha256
    save(store, upload(make_label()))

    assert store.last_record("case0").label_sha256 == as_sent


def test_what_a_model_showed_counts_until_the_case_is_opened_again(site, store):
    assert store.shown_proposal("case0") is None
    store.open_case("case0")
    store.note_proposal("case0", proposal_sha256="a" * 64, model_sha256="c" * 64)
    store.note_proposal("case0", proposal_sha256="b" * 64, model_sha256="c" * 64, kind="clicked")

    assert store.shown_proposal("case0") == "b" * 64
    assert SiteDatastore(site.folder, reader=lambda: "bob").shown_proposal("case0") is None
    store.open_case("case0")
    assert store.shown_proposal("case0") is None
