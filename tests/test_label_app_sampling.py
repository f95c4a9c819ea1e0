"""Which case a reader gets next."""

from __future__ import annotations

import numpy as np
import pytest

from label_app.inference import uncertainty
from label_app.sampling import LeastCertain, OldestFirst, RandomOrder
from label_app.store import SiteDatastore
from segfed.volumes import write_label
from tests.model_samples import publish_untrained
from tests.sites_samples import make_label, make_site


class FixedScores:
    """Scores that are there already."""

    def __init__(self, scores):
        self.scores = scores
        self.n_wanted = 0

    def known(self):
        return self.scores

    def want(self):
        self.n_wanted += 1


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path, splits=("test", "train", "train", "validation", "train", "train"))


@pytest.fixture
def store(site):
    return SiteDatastore(site.folder, reader=lambda: "ann")


def read_all(strategy, store, folder):
    """The order in which a reader gets the cases."""
    order = []
    while (sample := strategy({}, store)) is not None:
        order.append(sample["id"])
        write_label(make_label(), folder / "label.nii.gz")
        store.save_label(order[-1], str(folder / "label.nii.gz"), "final", {})
    return order


def test_the_oldest_first_unless_told_otherwise(store, tmp_path):
    assert read_all(OldestFirst(), store, tmp_path) == [f"case{n}" for n in range(6)]


def test_random_order_offers_every_waiting_case(store, tmp_path):
    strategy = RandomOrder(np.random.default_rng(0))

    offered = {strategy({}, store)["id"] for _ in range(100)}

    assert offered == {f"case{n}" for n in range(6)}
    assert sorted(read_all(strategy, store, tmp_path)) == sorted(offered)


def test_least_certain_first_then_those_without_a_score_then_the_blind_splits(store, tmp_path):
    scores = FixedScores({"case2": 0.1, "case5": 0.4})

    order = read_all(LeastCertain(scores), store, tmp_path)

    assert order == ["case5", "case2", "case1", "case4", "case0", "case3"]
    assert scores.n_wanted == 6, "missing scores are computed after a request"


@pytest.mark.parametrize(
    "strategy",
    [RandomOrder(np.random.default_rng(0)), LeastCertain(FixedScores({"case5": 0.9}))],
    ids=["random", "least_certain"],
)
def test_an_assigned_reader_gets_the_assigned_cases_in_their_order(strategy, store, site, tmp_path):
    for case_id in ("case1", "case5"):
        site.ledger().assign("ann", case_id, "assisted")

    assert read_all(strategy, store, tmp_path) == ["case1", "case5"]


@pytest.mark.parametrize(
    "strategy",
    [RandomOrder(np.random.default_rng(0)), LeastCertain(FixedScores({"case5": 0.9}))],
    ids=["random", "least_certain"],
)
def test_a_case_that_was_left_open_is_offered_again_before_any_other(strategy, store, site):
    store.open_case("case2")
    SiteDatastore(site.folder, reader=lambda: "bob").open_case("case3")

    assert {strategy({}, store)["id"] for _ in range(20)} == {"case2"}


def test_the_model_scores_a_case_between_certain_and_clueless(site, tmp_path):
    publish_untrained(site, tmp_path)
    (folder,) = (site.folder / "models" / "bean").glob("*/")

    score = uncertainty(site.case("case1"), model_folder=folder, device="cpu")

    assert 0 < score <= 1
