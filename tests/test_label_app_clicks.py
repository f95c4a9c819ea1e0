"""Clicks of a reader, as Slicer sends them, correct one structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fastapi import HTTPException

from label_app.clicks import ClickHelper
from label_app.proposals import Proposer
from label_app.store import SiteDatastore
from segfed.volumes import Volume, read_label, write_label
from tests.model_samples import publish_untrained
from tests.sites_samples import SHAPE, make_grid, make_site

CLICKS = {"label": "core", "foreground": [[2, 2, 2]], "background": [[5, 4, 3]]}


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path, splits=("train", "train", "test"))


@pytest.fixture
def store(site):
    return SiteDatastore(site.folder, reader=lambda: "ann")


@pytest.fixture
def helper(store):
    return ClickHelper(store, device="cpu", ask=do_here)


def do_here(job):
    """What the worker process does, in this one."""
    return job()


def ask(helper, case_id="case0", **wishes):
    file, answer = helper({"image": case_id} | CLICKS | wishes)
    label = read_label(Path(file))
    Path(file).unlink()
    return label, answer


def stored(site, answer):
    return read_label(site.ledger().label_path(answer["proposal_sha256"])).data[0]


def test_slicer_shows_it_as_a_model_for_clicks_once_it_is_published(site, helper, tmp_path):
    assert not helper.is_valid()
    publish_untrained(site, tmp_path, click_label="core")

    assert helper.is_valid()
    info = helper.info()
    assert (info["type"], info["labels"], info["dimension"]) == ("deepgrow", {"core": 2}, 3)


def test_the_answer_holds_the_structure_alone_with_what_was_clicked(site, helper, tmp_path):
    model_sha256 = publish_untrained(site, tmp_path, click_label="core")

    label, answer = ask(helper)

    assert label.grid.matches(make_grid())
    assert set(np.unique(label.data)) <= {0, 2}
    assert label.data[0, 2, 2, 2] == 2
    assert label.data[0, 5, 4, 3] == 0
    assert answer["label_names"] == {"core": 2}
    assert answer["model_sha256"] == model_sha256


def test_a_further_click_changes_the_answer(site, helper, tmp_path):
    publish_untrained(site, tmp_path, click_label="core")

    first, _ = ask(helper)
    second, _ = ask(helper, background=[[5, 4, 3], [2, 2, 2]], foreground=[[6, 5, 4]])

    assert (first.data[0, 2, 2, 2], second.data[0, 2, 2, 2]) == (2, 0)
    assert (first.data != second.data).any()


def test_the_other_structures_of_the_last_proposal_stay_in_what_is_recorded(
    site, store, helper, tmp_path
):
    publish_untrained(site, tmp_path, click_label="core")
    publish_untrained(site, tmp_path, seed=3)
    store.open_case("case0")
    file, proposed = Proposer(store, device="cpu", ask=do_here)({"image": "case0"})
    Path(file).unlink()

    label, answer = ask(helper)

    before, after = stored(site, proposed), stored(site, answer)
    core = label.data[0] == 2
    assert np.array_equal(after == 2, core)
    assert np.array_equal((after == 1) | core, ((before == 1) | core))


def test_a_label_that_began_with_clicks_is_an_assisted_one(site, store, helper, tmp_path):
    model_sha256 = publish_untrained(site, tmp_path, click_label="core")
    store.open_case("case0")
    _, answer = ask(helper)
    label = stored(site, answer).copy()
    label[tuple(np.argwhere(label == 2)[0])] = 1

    write_label(Volume(label[None], make_grid()), tmp_path / "label.nii.gz")
    store.save_label("case0", str(tmp_path / "label.nii.gz"), "final", {})

    record = store.last_record("case0")
    assert (record.origin, record.model_sha256) == ("ai_corrected", model_sha256)
    assert record.proposal_sha256 == answer["proposal_sha256"]
    assert record.changed_fraction == pytest.approx(1 / np.count_nonzero(label))
    events = site.ledger().events("ann", "case0")
    assert [event.kind for event in events] == ["opened", "clicked"]
    assert events[1].model_sha256 == model_sha256


@pytest.mark.parametrize("case_id", ["case0", "case2"])
def test_a_case_to_be_drawn_by_hand_gets_no_help(site, helper, tmp_path, case_id):
    publish_untrained(site, tmp_path, click_label="core")
    if case_id == "case0":  # case 2 is for testing
        site.ledger().assign("ann", "case0", "manual")

    with pytest.raises(HTTPException, match=rf"422.*{case_id} is to be drawn by hand"):
        ask(helper, case_id)

    assert site.ledger().events("ann", case_id) == ()
    assert not (site.folder / "labels").exists()


def test_a_model_that_saw_the_case_does_not_help_with_it(site, helper, tmp_path):
    publish_untrained(
        site, tmp_path, click_label="core", trained_on=(site.case("case0").image_sha256,)
    )

    with pytest.raises(HTTPException, match=r"422.*case0 is among the training images"):
        ask(helper)


def test_clicks_on_another_segment_are_refused(site, helper, tmp_path):
    publish_untrained(site, tmp_path, click_label="core")

    with pytest.raises(HTTPException, match=r"422.*'skin' is selected.*corrects 'core'"):
        ask(helper, label="skin")
    assert ask(helper, label="Core")[1]["label_names"] == {"core": 2}


def test_a_click_outside_the_image_is_refused_before_anything_is_computed(site, store, tmp_path):
    publish_untrained(site, tmp_path, click_label="core")
    helper = ClickHelper(store, device="cpu", ask=lambda _: pytest.fail("it was computed"))

    with pytest.raises(HTTPException, match=r"422.*\[7, 0, 0\].*7 x 6 x 5"):
        ask(helper, foreground=[[SHAPE[0], 0, 0]])


def test_without_a_published_model_it_says_what_to_do(helper):
    with pytest.raises(HTTPException, match=r"422.*no published model for clicks.*--clicks"):
        ask(helper)
