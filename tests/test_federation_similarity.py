"""How updates lie to each other."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp.strategy.multikrum import select_multikrum

from federation.similarity import compare, krum_choice, outlier_scores, suspects
from federation.spool import BLOCK, Spool


def comparison(folder, start=0.0, **updates):
    """The comparison of models that moved from ``start`` by the given vectors."""
    rows = {site: np.asarray(row, np.float32) + np.float32(start) for site, row in updates.items()}
    model = {"w": np.full_like(next(iter(rows.values())), start)}
    spool = Spool(folder / "spool", model=model)
    for site, row in rows.items():
        spool.add(site, {"w": row})
    return compare(spool, model=model, sites=rows)


def flagged(folder, steps=None, steps_weigh=False, **updates):
    """Who is suspected, with equally many steps unless stated."""
    return suspects(
        comparison(folder, **updates),
        steps=steps or dict.fromkeys(updates, 5.0),
        steps_weigh=steps_weigh,
    )


def test_products_are_those_of_the_changes_and_not_of_the_models(tmp_path):
    found = comparison(tmp_path, start=100.0, south=[3, 4], north=[1, 0])

    assert found.sites == ("north", "south")
    np.testing.assert_array_equal(found.products, [[1, 3], [3, 25]])


def test_products_of_arrays_that_take_several_pieces_are_those_of_numpy(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, BLOCK + 40_000)).astype(np.float32)

    found = comparison(tmp_path, a=rows[0], b=rows[1], c=rows[2]).products

    expected = rows.astype(np.float64) @ rows.astype(np.float64).T
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-6)


def test_scores_of_a_round_are_those_worked_out_by_hand(tmp_path):
    # Norms 5, 5, 10, median 5. Cosines: a-b 24/25, a-c 1, b-c 24/25.
    # Nearest: a to b sqrt(1 + 1) / 5; b the same; c to b sqrt(2² + 5²) / 10.
    found = outlier_scores(comparison(tmp_path, a=[3, 4], b=[4, 3], c=[6, 8]))

    assert found["a"] == pytest.approx(
        {"norm_ratio": 1, "cosine": 0.98, "nearest_distance": 2**0.5 / 5}
    )
    assert found["c"] == pytest.approx({"norm_ratio": 2, "cosine": 0.98, "nearest_distance": 0.5})


def test_a_site_that_changed_nothing_has_a_length_and_no_nearest(tmp_path):
    found = outlier_scores(comparison(tmp_path, a=[3, 4], b=[4, 3], c=[0, 0]))

    assert found["c"] == {"norm_ratio": 0, "cosine": 0, "nearest_distance": None}


HONEST = {"a": [4, 1, 1, 1], "b": [4, -1, 1, -1], "c": [4, 1, -1, -1]}


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ([-4, 1, 1, 1], "its cosine with the others is -0."),
        ([0.1, -4, 2, 1], "its cosine with the others is"),
        ([40, -10, -10, 10], "10 times the median"),
        ([0, 0, 0, 0], "changed the model by only 0 of the median"),
        ([0.05, 0.1, 0.05, 0], "changed the model by only"),
        ([4, 1, 1, 1.1], "its update is that of a"),
    ],
)
def test_an_odd_update_among_honest_ones_is_named_with_the_reason(tmp_path, odd, reason):
    found = flagged(tmp_path, **HONEST, odd=odd)

    assert list(found) == ["odd"]
    assert reason in found["odd"]


def test_honest_updates_are_not_named(tmp_path):
    assert flagged(tmp_path, **HONEST, d=[3, -1, -1, 1]) == {}


def test_updates_that_all_hardly_agree_are_not_named(tmp_path):
    late = {"a": [3, 1, 10, 0, 0], "b": [3, -1, 0, 10, 0], "c": [3, 1, 0, 0, 10]}

    assert flagged(tmp_path, **late, d=[0.1, 10, 0, 0, -3]) == {}


def test_two_that_agree_with_each_other_do_not_outvote_four(tmp_path):
    # Each honest one agrees with three others of five, each flipped one with one.
    honest = HONEST | {"d": [4, -1, -1, 1]}

    assert list(flagged(tmp_path, **honest, x=[-4, -1, 1, 1], y=[-4, 1, 1, 0])) == ["x", "y"]


def test_few_steps_excuse_a_short_update_only_where_they_cost_weight(tmp_path):
    short = {**HONEST, "d": [0.4, -0.1, -0.1, 0.1]}
    steps = dict.fromkeys(HONEST, 10.0)

    assert list(flagged(tmp_path, steps | {"d": 10.0}, True, **short)) == ["d"]
    assert flagged(tmp_path, steps | {"d": 1.0}, True, **short) == {}
    assert list(flagged(tmp_path, steps | {"d": 1.0}, False, **short)) == ["d"]


def test_two_sites_are_only_compared_for_copies(tmp_path):
    assert flagged(tmp_path, a=[1, 2], b=[-50, 3]) == {}
    assert list(flagged(tmp_path, a=[1, 2], b=[1, 2])) == ["b"]


def test_nothing_is_said_where_nobody_changed_anything(tmp_path):
    nothing = np.zeros(3)

    assert flagged(tmp_path, a=nothing, b=nothing, c=nothing, d=nothing) == {}


@pytest.mark.parametrize(("n_hostile", "n_chosen"), [(1, 1), (2, 1), (1, 4), (2, 3)])
def test_the_choice_is_that_of_flower_s_multi_krum(tmp_path, n_hostile, n_chosen):
    rng = np.random.default_rng(n_hostile)
    updates = {f"site{index}": rng.normal(size=30).astype(np.float32) for index in range(7)}

    found = krum_choice(comparison(tmp_path, **updates), n_hostile=n_hostile, n_chosen=n_chosen)

    contents = [RecordDict({"arrays": ArrayRecord([row])}) for row in updates.values()]
    expected = select_multikrum(contents, n_hostile, n_chosen)
    assert found == sorted(
        site for site, content in zip(updates, contents, strict=True) if content in expected
    )


def test_scores_of_some_of_the_sites_forget_the_others(tmp_path):
    found = comparison(tmp_path, a=[1, 0], b=[0, 50], c=[3, 4]).of({"a", "c"})

    assert found.sites == ("a", "c")
    np.testing.assert_array_equal(found.products, [[1, 3], [3, 25]])
