"""Labels of both arms against proposals, shown or hidden, and a reference by another hand."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.phantom.recipe import truth_path
from segfed.sites import load_site, submit_label
from segfed.sites.labels import store_label
from segfed.study.records import read_anchoring
from segfed.study.registry import publish_run, published_models
from segfed.study.runner import run_study
from segfed.volumes import Volume, write_label
from tests.study_samples import GRID, SHAPE, block, make_settings, make_site, pretend_federation

SPLITS = ("warmup", "train", "train", "validation", "test")


def wrong_proposal(start):
    """The kidney of `block`, with a second one of 4 x 5 x 4 voxels in the far corner."""
    label = block(start).data.copy()
    label[0, -4:, 9:, 8:] = 1
    return Volume(label, GRID)


@pytest.fixture
def root(tmp_path):
    """Sites a and b with a published model; the training cases have one manual label each."""
    for seed, name in enumerate(("a", "b")):
        make_site(tmp_path, name, seed=seed, splits=SPLITS)
    run(tmp_path, "warmup", arms=("manual",), train_split="warmup")
    for name in ("a", "b"):
        publish_run(tmp_path / "warmup", load_site(tmp_path / name))
    return tmp_path


def run(root, out="run", **changes):
    settings = make_settings(root, external_sites=(), regimes=("federated",), **changes)
    run_study(settings, out=root / out, launch_federation=pretend_federation)
    return read_anchoring(root / out / "anchoring.csv")


def assist(site, number, label):
    """A label of the assisted arm that began as the wrong proposal."""
    proposal = store_label(site.folder, wrong_proposal(2 + number))
    submit_label(
        site,
        case_id=f"{site.name}-{number}",
        label=label,
        origin="ai_corrected",
        reader="assisted-reader",
        proposal_sha256=proposal,
        model_sha256=published_models(site)[0].sha256,
    )


def draw_again(site, number):
    """The reference: a label by another hand."""
    submit_label(
        site,
        case_id=f"{site.name}-{number}",
        label=block(2 + number),
        origin="manual",
        reader="second-reader",
    )


def test_a_study_of_one_arm_has_no_rows(root):
    assert run(root) == ()


def test_in_a_crossover_both_arms_face_the_proposal_that_one_of_them_saw(root):
    for name in ("a", "b"):
        site = load_site(root / name)
        for number in (1, 2):
            draw_again(site, number)
            # At a the reader leaves the error, at b they remove it.
            kept = wrong_proposal(2 + number) if name == "a" else block(2 + number)
            assist(site, number, kept)

    rows = run(root, arms=("manual", "assisted"))

    by_site_and_arm = {(row.site, row.arm): (row.volume_mm3, row.agreement) for row in rows}
    # 4 x 5 x 4 voxels of 120 mm3, all further than 6 mm from the kidney
    assert by_site_and_arm == {
        ("a", "manual"): (9600.0, 0.0),
        ("a", "assisted"): (9600.0, 1.0),
        ("b", "manual"): (9600.0, 0.0),
        ("b", "assisted"): (9600.0, 0.0),
    }
    assert len(rows) == 8
    assert all(row.reference and row.reference != row.reader for row in rows)
    assert not (root / "run/hidden_proposals").exists()


def test_without_another_hand_nothing_is_judged(root):
    for name in ("a", "b"):
        for number in (1, 2):
            assist(load_site(root / name), number, block(2 + number))

    rows = run(root, arms=("manual", "assisted"))

    # An assisted label is held against the manual one; that one against nobody's.
    assert {(row.arm, row.reference) for row in rows} == {
        ("manual", ""),
        ("assisted", "manual-reader"),
    }


def test_a_manual_case_that_nobody_saw_a_proposal_for_gets_a_hidden_one(root):
    for name in ("a", "b"):
        site = load_site(root / name)
        write_label(block(3), truth_path(site.folder, f"{name}-1"))
        # A parallel study: one case an arm, of which the other has a manual label as well.
        site.ledger().assign("manual-reader", f"{name}-1", "manual")
        assist(site, 2, block(4))

    rows = run(root, arms=("manual", "assisted"))

    hidden = list((root / "run/hidden_proposals/a").iterdir())
    assert len(hidden) == 1
    judged = [row for row in rows if row.case == "a-1" and row.arm == "manual"]
    assert {row.reference for row in judged} == {"truth"}
    assert {row.model_sha256 for row in judged} == {
        published_models(load_site(root / "a"))[0].sha256
    }
    assert np.prod(SHAPE) * 120 > sum(row.volume_mm3 or 0 for row in judged)
    before = hidden[0].stat().st_mtime_ns
    assert run(root, arms=("manual", "assisted")) == rows
    assert hidden[0].stat().st_mtime_ns == before
