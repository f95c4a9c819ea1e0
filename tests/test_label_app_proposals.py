"""Proposals of a published model, as Slicer asks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fastapi import HTTPException

from label_app.proposals import Proposer
from label_app.store import SiteDatastore
from segfed.study import current_model
from segfed.volumes import read_grid, read_label, write_label
from tests.model_samples import publish_untrained
from tests.sites_samples import make_grid, make_label, make_site


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path)


@pytest.fixture
def proposer(site):
    return Proposer(SiteDatastore(site.folder, reader=lambda: "ann"), device="cpu", ask=do_here)


def do_here(job):
    """What the worker process does, in this one."""
    return job()


def ask(proposer, case_id="case0", **wishes):
    file, answer = proposer({"image": case_id} | wishes)
    label = read_label(Path(file))
    Path(file).unlink()
    return label, answer


def test_a_proposal_is_stored_before_the_reader_sees_it(site, proposer, tmp_path):
    model_sha256 = publish_untrained(site, tmp_path)

    label, answer = ask(proposer)

    stored = read_label(site.ledger().label_path(answer["proposal_sha256"]))
    assert label.grid.matches(make_grid())
    assert np.array_equal(label.data, stored.data)
    assert answer["model_sha256"] == model_sha256
    assert sorted(answer["label_names"].values()) == sorted(set(label.data.flat) - {0})


def test_the_model_is_swapped_when_another_one_is_published(site, proposer, tmp_path):
    assert not proposer.is_valid()
    for seed in (0, 1):
        model_sha256 = publish_untrained(site, tmp_path, seed=seed)
        assert proposer.is_valid()
        assert ask(proposer)[1]["model_sha256"] == model_sha256


def test_a_case_to_be_drawn_by_hand_comes_with_an_empty_mask(site, proposer, tmp_path):
    publish_untrained(site, tmp_path)
    site.ledger().assign("ann", "case0", "manual")

    label, answer = ask(proposer)

    assert not label.data.any()
    assert answer["label_names"] == {}
    assert "proposal_sha256" not in answer
    assert not (site.folder / "labels").exists()


@pytest.mark.parametrize("arm", [None, "assisted"])
def test_nobody_sees_a_proposal_for_a_validation_or_test_case(tmp_path, arm):
    site = make_site(tmp_path, splits=("validation", "test"))
    store = SiteDatastore(site.folder, reader=lambda: "ann")
    publish_untrained(site, tmp_path)
    for case in site.cases:
        if arm:
            site.ledger().assign("ann", case.case_id, arm)

        label, answer = ask(Proposer(store, device="cpu", ask=do_here), case.case_id)

        assert not label.data.any()
        assert "proposal_sha256" not in answer
        write_label(make_label(), tmp_path / "upload.nii.gz")
        store.save_label(case.case_id, str(tmp_path / "upload.nii.gz"), "final", {})
        assert store.last_record(case.case_id).origin == "manual"


def test_a_model_that_saw_the_case_proposes_nothing(site, proposer, tmp_path):
    publish_untrained(site, tmp_path, trained_on=(site.case("case0").image_sha256,))

    with pytest.raises(HTTPException, match=r"422.*case0 is among the training images"):
        ask(proposer)


def test_a_corrected_lineage_counts_at_once(site, proposer, tmp_path):
    publish_untrained(site, tmp_path)
    ask(proposer)
    publish_untrained(site, tmp_path, trained_on=(site.case("case0").image_sha256,))

    with pytest.raises(HTTPException, match="case0 is among the training images"):
        ask(proposer)


def test_a_missing_channel_is_named(site, proposer, tmp_path):
    publish_untrained(site, tmp_path)
    (site.folder / "images" / "case0.nii.gz").unlink()

    with pytest.raises(HTTPException, match=r"422.*channel t1"):
        ask(proposer)


def test_readers_learn_what_is_damaged_and_not_where_the_site_lies(site, proposer, tmp_path):
    publish_untrained(site, tmp_path)
    (current_model(site) / "models" / "model.safetensors").write_bytes(b"damaged")

    with pytest.raises(HTTPException, match=r"422.*models/") as refused:
        ask(proposer)

    assert str(site.folder) not in refused.value.detail


def test_the_answer_has_the_format_that_was_asked_for(site, proposer, tmp_path):
    publish_untrained(site, tmp_path)

    file, _ = proposer({"image": "case0", "result_extension": ".nii.gz"})

    assert file.endswith(".nii.gz")
    assert read_grid(Path(file)).matches(make_grid())
    Path(file).unlink()
    with pytest.raises(HTTPException, match=r"422.*'\.\./x'"):
        proposer({"image": "case0", "result_extension": "../x"})
