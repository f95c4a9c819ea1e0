"""Many updates made into one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from federation.aggregation import aggregate
from federation.similarity import compare
from federation.spool import BLOCK, Spool
from segfed.rules import FederationRules


def aggregated(folder, updates, counts=None, **rules):
    """The aggregate of updates of a model of zeros, by site; each counts once unless stated."""
    model = {name: np.zeros_like(array) for name, array in next(iter(updates.values())).items()}
    spool = Spool(folder / "spool", model=model)
    for site, weights in updates.items():
        spool.add(site, weights)
    counts = counts or dict.fromkeys(updates, 1)
    return aggregate(
        spool,
        model=model,
        counts=counts,
        rules=FederationRules(**rules),
        comparison=compare(spool, model=model, sites=counts),
    )


def full(*values, shape=(2,), dtype=np.float32):
    """Updates of sites a, b, c … that hold one value each."""
    names = "abcdefghij"
    return {
        name: {"w": np.full(shape, value, dtype)}
        for name, value in zip(names, values, strict=False)
    }


def random_updates(n_sites, shape):
    rng = np.random.default_rng(0)
    return {
        f"site{index}": {"w": rng.normal(size=shape).astype(np.float32)} for index in range(n_sites)
    }


def test_the_mean_weighs_by_the_counts(tmp_path):
    # (1 x 1 + 3 x 2 + 4 x 3) / 8 = 19 / 8
    found = aggregated(tmp_path, full(1.0, 2.0, 3.0), {"a": 1, "b": 3, "c": 4})

    np.testing.assert_array_equal(found["w"], np.full(2, 19 / 8, np.float32))


def test_sites_that_have_no_count_are_left_out(tmp_path):
    for method in ("mean", "median", "trimmed_mean"):
        found = aggregated(tmp_path, full(1.0, 3.0, 99.0), {"a": 1, "b": 1}, aggregation=method)
        assert found["w"][0] == 2


def test_the_mean_is_summed_in_double_precision_and_keeps_the_type(tmp_path):
    # In float32, 2^24 + 1 is 2^24: a float32 sum would lose both ones and give 2^24 / 3.
    found = aggregated(tmp_path, full(2.0**24, 1.0, 1.0))["w"]

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.full(2, (2**24 + 2) / 3, np.float32))


def test_the_mean_in_pieces_is_bit_for_bit_the_mean_of_whole_arrays(tmp_path):
    updates = random_updates(5, (3, BLOCK // 2))
    counts = {site: number for number, site in enumerate(updates, start=3)}
    total = np.zeros((3, BLOCK // 2), np.float64)
    for site, weights in updates.items():
        total += counts[site] * weights["w"].astype(np.float64)
    expected = (total / sum(counts.values())).astype(np.float32)

    assert aggregated(tmp_path, updates, counts)["w"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("method", ["mean", "median", "trimmed_mean"])
@settings(max_examples=10)
@given(order=st.permutations(range(5)))
def test_the_order_of_replies_changes_no_bit(tmp_path_factory, method, order):
    folder = tmp_path_factory.mktemp("order")
    updates = random_updates(5, (50,))
    counts = {f"site{index}": index + 1 for index in order}
    shuffled = {site: updates[site] for site in counts}

    found = aggregated(folder, shuffled, counts, aggregation=method)["w"]

    expected = aggregated(folder, updates, dict(sorted(counts.items())), aggregation=method)["w"]
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("n_sites", [2, 3, 4, 7])
def test_the_median_is_that_of_numpy_and_weighs_every_site_once(tmp_path, n_sites):
    updates = random_updates(n_sites, (4, 5))
    counts = {site: 10**number for number, site in enumerate(updates)}

    found = aggregated(tmp_path, updates, counts, aggregation="median")["w"]

    values = np.stack([weights["w"] for weights in updates.values()])
    np.testing.assert_allclose(found, np.median(values, axis=0), rtol=1e-6)  # float32


@pytest.mark.parametrize(("n_sites", "fraction"), [(3, 0.2), (5, 0.2), (10, 0.25), (4, 0.0)])
def test_the_trimmed_mean_is_that_of_scipy(tmp_path, n_sites, fraction):
    updates = random_updates(n_sites, (4, 5))

    found = aggregated(tmp_path, updates, aggregation="trimmed_mean", trimmed_fraction=fraction)[
        "w"
    ]

    values = np.stack([weights["w"] for weights in updates.values()]).astype(np.float64)
    np.testing.assert_allclose(found, trim_mean(values, fraction, axis=0), rtol=1e-6, atol=1e-7)


def test_hostile_values_at_both_ends_are_trimmed(tmp_path):
    # One of five at each end is left out: (1 + 2 + 3) / 3.
    found = aggregated(tmp_path, full(1.0, 2.0, 3.0, -1e30, 1e30), aggregation="trimmed_mean")

    assert found["w"][0] == 2


def test_an_array_without_dimensions_stays_one(tmp_path):
    found = aggregated(tmp_path, full(1.0, 3.0, shape=()))

    assert found["w"].shape == ()
    assert found["w"] == 2


def test_krum_takes_the_update_that_lies_closest_to_the_others(tmp_path):
    # n - f - 2 = 2 neighbours; with w = (v, v) squared distances are 2 (v - v')². The scores:
    # 1.0: 2 (0.1² + 0.3²) = 0.2, 1.1: 2 (0.1² + 0.2²) = 0.1, 1.3: 2 (0.2² + 0.3²) = 0.26.
    found = aggregated(
        tmp_path, full(1.0, 1.1, 1.3, 9.0, -5.0), aggregation="krum", minimum_sites=5
    )

    assert found["w"][0] == np.float32(1.1)


def test_multi_krum_takes_the_plain_mean_of_the_closest(tmp_path):
    # n - f - 2 = 2 updates have the best scores (above), whatever case counts they claim.
    counts = {"a": 1, "b": 100, "c": 1, "d": 1000, "e": 1}
    updates = full(1.0, 1.1, 1.3, 9.0, -5.0)

    found = aggregated(tmp_path, updates, counts, aggregation="multi_krum", minimum_sites=5)

    assert found["w"][0] == pytest.approx(1.05)


def test_a_long_update_is_shortened_to_the_bound_before_the_mean(tmp_path):
    # The median norm is that of 2; 30 is shortened to 1.5 x 2: (1 + 2 + 3) / 3.
    found = aggregated(tmp_path, full(1.0, 2.0, 30.0), clip_norm_ratio=1.5)

    assert found["w"][0] == pytest.approx(2)
    assert found["w"].dtype == np.float32
