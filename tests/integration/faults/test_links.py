"""A link that is slow, breaks or is cut, and final weights that are those of a good one."""

from __future__ import annotations

import time

import pytest

from segfed.cli.kit import load_server_kit
from segfed.cli.server import online_sites
from tests.deployment_samples import (
    disturbed_in_round,
    final_weights,
    make_federation,
    rounds_done,
    running,
    signed_study,
    simulated_weights,
    submit,
    until,
    until_trains,
)
from tests.fault_proxy import faulty_link

SITES = ("north", "southern", "west")
# A second of training or more on any machine, so that a round is on when the link fails.
STEPS = 100

# On a busy machine a round takes minutes, and a test three rounds and their simulation.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def link():
    """Where the node of `north` calls; the other two call the server itself."""
    return {}


@pytest.fixture(scope="module")
def federation(tmp_path_factory, link):
    """Server and three sites that stay for all tests here."""
    made = make_federation(tmp_path_factory.mktemp("federation"), sites=SITES)
    port = load_server_kit(made.kit).port
    with faulty_link(port) as faulty:
        kit = made.folder / "kits" / "north" / "kit.toml"
        kit.write_text(kit.read_text().replace(f":{port}", f":{faulty.port}"))
        link["north"] = faulty
        with running(made, sites=SITES):
            until(lambda: online_sites(made.kit) == dict.fromkeys(SITES, True))
            yield made


@pytest.fixture
def north(link, federation):
    """The link of `north`, whole before and after."""
    del federation  # makes the link
    yield link["north"]
    link["north"].mend()
    link["north"].delay_seconds, link["north"].bytes_per_second = 0.0, None


def test_a_slow_link_that_breaks_again_and_again_changes_nothing(federation, north, tmp_path):
    study = signed_study(federation, name="breaks", rounds=2, steps_per_round=STEPS)
    north.delay_seconds, north.bytes_per_second = 0.1, 200_000.0

    def break_it():
        north.reset()
        time.sleep(10)  # a new connection takes a second or two here
        return rounds_done(federation, study)

    done = disturbed_in_round(federation, study, number=1, disturb=lambda: until(break_it))

    assert done.returncode == 0, done.stderr
    assert [record.dropped for record in rounds_done(federation, study)] == [{}, {}]
    expected = simulated_weights(tmp_path / "simulated", study, sites=SITES)
    assert final_weights(federation, study) == expected


def test_a_link_that_is_cut_for_thirty_seconds_changes_nothing(federation, north, tmp_path):
    study = signed_study(federation, name="cut", rounds=2, steps_per_round=STEPS)

    def cut_at_work():
        until_trains(federation, "north", number=1)
        north.cut()
        time.sleep(30)
        north.mend()

    done = disturbed_in_round(federation, study, number=1, disturb=cut_at_work)

    assert done.returncode == 0, done.stderr
    assert [record.dropped for record in rounds_done(federation, study)] == [{}, {}]
    expected = simulated_weights(tmp_path / "simulated", study, sites=SITES)
    assert final_weights(federation, study) == expected


def test_a_link_that_is_cut_beyond_the_deadline_costs_that_site_its_round(
    federation, north, tmp_path
):
    study = signed_study(
        federation,
        name="long",
        rounds=2,
        steps_per_round=STEPS,
        federation={"round_deadline_seconds": 120},
    )

    def cut_at_work():
        until_trains(federation, "north", number=2)
        north.cut()

    done = disturbed_in_round(federation, study, number=2, disturb=cut_at_work)

    assert done.returncode == 0, done.stderr
    assert list(rounds_done(federation, study)[1].dropped) == ["north"]
    alone = simulated_weights(tmp_path / "simulated", study, sites=SITES, unheard={"north": {2}})
    assert final_weights(federation, study) == alone

    # It takes part again once the link is back.
    north.mend()
    until(lambda: online_sites(federation.kit) == dict.fromkeys(SITES, True))
    following = signed_study(federation, name="after", rounds=1)
    assert submit(federation, following).returncode == 0
    expected = simulated_weights(tmp_path / "after", following, sites=SITES)
    assert final_weights(federation, following) == expected
