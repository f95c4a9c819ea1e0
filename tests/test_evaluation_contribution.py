"""What each site adds."""

from __future__ import annotations

import pytest

from segfed.errors import CaseError
from segfed.evaluation.contribution import (
    all_groups,
    contributions,
    draw_orders,
    needed_groups,
    shapley_values,
)


def groups(**values):
    """Groups by the letters of their sites; ``none`` is the empty one."""
    return {frozenset(name if name != "none" else ""): value for name, value in values.items()}


def test_there_is_one_group_for_every_choice_of_sites():
    assert len(all_groups("abcd")) == 16
    assert all_groups("ba") == (frozenset(), *map(frozenset, ("a", "b", "ab")))


def test_the_parts_are_those_of_the_glove_game():
    # Two left gloves and one right one, a pair is worth 1: 1/6, 1/6 and 4/6 (Shapley's example).
    worth = groups(none=0, a=0, b=0, c=0, ab=0, ac=1, bc=1, abc=1)

    found = shapley_values(worth)

    assert found == pytest.approx({"a": 1 / 6, "b": 1 / 6, "c": 4 / 6})


def test_the_parts_add_up_to_what_all_are_worth_over_none():
    worth = {group: 0.3 + 0.1 * len(group) ** 1.5 for group in all_groups("abcd")}

    assert sum(shapley_values(worth).values()) == pytest.approx(0.1 * 4**1.5)


def scored():
    """Each site adds 0.1 to its own four cases, and b adds 0.05 to everybody's."""
    return {
        group: {
            site: {
                case: start + 0.1 * (site in group) + 0.05 * ("b" in group)
                for case, start in (("1", 0.3), ("2", 0.5), ("3", 0.3), ("4", 0.5))
            }
            for site in "ab"
        }
        for group in all_groups("ab")
    }


def test_a_site_is_missed_by_itself_and_by_the_others():
    found = contributions([scored(), scored()], seed=0, n_bootstrap=50)

    assert found["a"].own.mean == pytest.approx(0.1)
    assert found["a"].others.mean == pytest.approx(0.0)
    assert found["b"].own.mean == pytest.approx(0.15)
    assert found["b"].others.mean == pytest.approx(0.05)
    # On the mean of both sites: a adds 0.05, b adds 0.05 + 0.05, to whatever group.
    assert found["a"].shapley.mean == pytest.approx(0.05)
    assert found["b"].shapley.mean == pytest.approx(0.10)
    # Every case gains alike, so that resampling changes nothing.
    assert found["b"].shapley.low == pytest.approx(found["b"].shapley.high)


def test_what_differs_by_case_and_training_widens_the_interval():
    other = scored()
    other[frozenset("ab")]["a"] |= {"1": 0.9, "2": 0.5}

    found = contributions([scored(), other], seed=0, n_bootstrap=200)["b"].others

    assert found.low < found.mean < found.high


@pytest.mark.parametrize(("at_a", "at_b"), [("1", "1234"), ("123", "1234")])
def test_a_single_case_of_a_site_or_fewer_than_eight_give_no_interval(at_a, at_b):
    kept = {"a": at_a, "b": at_b}
    run = {
        group: {site: {case: of[site][case] for case in kept[site]} for site in of}
        for group, of in scored().items()
    }

    found = contributions([run], seed=0, n_bootstrap=20)["a"].own

    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == (None, None)


def test_a_group_without_a_score_is_named():
    worth = groups(none=0, a=1, b=2, ab=3)
    del worth[frozenset("b")]

    with pytest.raises(CaseError, match=r"1 groups of sites have no score \(b\)"):
        shapley_values(worth)


def test_groups_that_were_scored_on_other_cases_do_not_compare():
    run = scored()
    del run[frozenset("a")]["b"]["2"]

    with pytest.raises(CaseError, match="different cases"):
        contributions([run], seed=0)


def test_drawn_orders_need_the_groups_that_form_in_them_and_those_that_lack_one_site():
    found = needed_groups("abc", [("b", "c", "a")])

    assert found == tuple(map(frozenset, ("", "b", "ab", "ac", "bc", "abc")))


def glove_game():
    """The gloves as scores: a pair is worth 1 at every site, and nothing else is worth anything."""
    return {
        group: {
            site: dict.fromkeys("1234", float("c" in group and len(group) > 1)) for site in "abc"
        }
        for group in all_groups("abc")
    }


def test_an_order_gives_each_site_what_it_adds_to_those_before_it():
    found = contributions([glove_game()], orders=[("b", "c", "a")], seed=0, n_bootstrap=20)

    assert {site: one.shapley.mean for site, one in found.items()} == {"a": 0, "b": 0, "c": 1}
    assert (found["c"].shapley.low, found["c"].shapley.high) == (1, 1)


def test_drawn_orders_come_near_the_exact_parts_and_say_how_near():
    orders = draw_orders("abc", n=200, seed=0)

    found = contributions([glove_game()], orders=orders, seed=0, n_bootstrap=200)

    # Exactly 1/6, 1/6 and 4/6; of 200 draws the standard error is 0.03.
    for site, exact in {"a": 1 / 6, "b": 1 / 6, "c": 4 / 6}.items():
        assert found[site].shapley.mean == pytest.approx(exact, abs=0.1)
        assert found[site].shapley.low < exact < found[site].shapley.high
    assert found["c"].own.mean == 1  # leaving out is exact: there is no pair without c
