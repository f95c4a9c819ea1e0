"""What updates count by, against numbers worked out by hand from the papers' formulas."""

from __future__ import annotations

import pytest

from federation.updates import SiteUpdate
from federation.weighting import site_weights
from segfed.protocol import RoundRecord
from segfed.rules import FederationRules


def record(number, **losses):
    sites = {site: {"loss": loss} for site, loss in losses.items()}
    return RoundRecord(round=number, loss=None, validation_dice=None, sites=sites, seconds=0)


def weights(weighting, earlier, cases=(1, 3), **losses):
    """Weights of sites ``a`` and ``b`` of 1 and 3 cases, unless stated."""
    updates = [
        SiteUpdate(site, n, {"steps": 2.0} | ({} if loss is None else {"loss": loss}))
        for (site, loss), n in zip(losses.items(), cases, strict=True)
    ]
    rules = FederationRules(weighting=weighting)
    return site_weights(updates, rules=rules, earlier=earlier)


def test_cases_and_steps_count_as_they_are():
    assert weights("cases", [], a=1.0, b=1.0) == {"a": 1, "b": 3}
    assert weights("steps", [], a=1.0, b=1.0) == {"a": 2, "b": 2}


def test_fedcostwavg_adds_the_share_of_the_cost_ratio():
    # a: 0.8 / 0.4 = 2, b: 0.9 / 0.3 = 3: shares of 2/5 and 3/5, beside 1/4 and 3/4 of the cases.
    found = weights("fedcostwavg", [record(1, a=0.8, b=0.9)], a=0.4, b=0.3)

    assert found == pytest.approx({"a": 0.5 / 4 + 0.5 * 2 / 5, "b": 0.5 * 3 / 4 + 0.5 * 3 / 5})


def test_fedpidavg_adds_the_shares_of_the_fall_and_of_the_sum():
    # Falls: a 0.8 - 0.6 = 0.2, b 0.9 - 0.3 = 0.6: shares 1/4, 3/4.
    # Sums over three rounds: a 1.0 + 0.8 + 0.6 = 2.4, b 1.2 + 0.9 + 0.3 = 2.4: a half each.
    earlier = [record(1, a=1.0, b=1.2), record(2, a=0.8, b=0.9)]

    found = weights("fedpidavg", earlier, a=0.6, b=0.3)

    assert found == pytest.approx({"a": 0.45 / 4 + 0.45 / 4 + 0.05, "b": 0.9 * 3 / 4 + 0.05})


def test_fedpidavg_looks_back_over_six_rounds():
    # Round 1 is the seventh from the end. Both lose nothing, so that the cases count 0.9.
    earlier = [record(1, a=99.0, b=1.0), *(record(n, a=1.0, b=1.0) for n in range(2, 7))]

    assert weights("fedpidavg", earlier, a=1.0, b=1.0)["a"] == pytest.approx(0.9 / 4 + 0.05)


@pytest.mark.parametrize("weighting", ["fedcostwavg", "fedpidavg"])
def test_in_the_first_round_the_cases_alone_count(weighting):
    assert weights(weighting, [], a=0.5, b=0.1) == pytest.approx({"a": 0.25, "b": 0.75})


def test_a_loss_that_rises_is_no_fall():
    # Only b falls, and has the whole of that term; the sums are 0.5 + 0.7 and 0.9 + 0.3.
    found = weights("fedpidavg", [record(1, a=0.5, b=0.9)], a=0.7, b=0.3)

    assert found == pytest.approx({"a": 0.45 / 4 + 0.05, "b": 0.45 * 3 / 4 + 0.45 + 0.05})


def test_a_site_that_states_no_loss_counts_by_its_cases():
    earlier = [record(1, a=0.8, b=0.9, c=0.5)]

    found = weights("fedcostwavg", earlier, cases=(1, 3, 4), a=0.4, b=0.3, c=None)

    # Half of all cases are c's; a and b share the other half of the term as 2 to 3.
    half = 0.5
    expected = {"a": 1 / 8, "b": 3 / 8, "c": 1 / 2}
    term = {"a": half * 2 / 5, "b": half * 3 / 5, "c": half}
    assert found == pytest.approx({s: (expected[s] + term[s]) / 2 for s in expected})


def test_a_site_that_missed_the_round_before_is_compared_with_its_last_loss():
    earlier = [record(1, a=0.8, b=0.9), record(2, a=0.8, b=None)]

    found = weights("fedcostwavg", earlier, a=0.4, b=0.3)

    assert found == weights("fedcostwavg", [record(1, a=0.8, b=0.9)], a=0.4, b=0.3)
