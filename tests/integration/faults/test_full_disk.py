"""A disk that is full in the middle of a round, at a site and at the server."""

from __future__ import annotations

import pytest

from tests.deployment_samples import (
    disturbed_in_round,
    final_weights,
    make_federation,
    running,
    signed_study,
    simulated_weights,
    submit,
    until_trains,
)
from tests.small_disk import small_disk

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

STEPS = 300


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    """Where the folders of the server and of a site will lie, each on a small disk."""
    folder = tmp_path_factory.mktemp("federation")
    with (
        small_disk(folder / "kits" / "server", megabytes=64) as server,
        small_disk(folder / "north", megabytes=64) as north,
    ):
        yield folder, {"server": server, "north": north}


@pytest.fixture(scope="module")
def federation(disks):
    """Server and two sites that stay for all tests here."""
    with running(make_federation(disks[0])) as ready:
        yield ready


@pytest.mark.parametrize("full", ["north", "server"])
def test_a_full_disk_costs_at_most_the_round_and_is_told(federation, disks, tmp_path, full):
    disk = disks[1][full]
    study = signed_study(federation, name=f"full-{full}", rounds=2, steps_per_round=STEPS)

    def fill_at_work():
        until_trains(federation, "north", number=2)
        disk.fill()

    done = disturbed_in_round(federation, study, number=2, disturb=fill_at_work)
    disk.empty()
    resumed = submit(federation, study, "--resume")

    assert done.returncode == 1
    assert "--resume" in " ".join(done.stderr.split())
    assert resumed.returncode == 0, resumed.stderr
    expected = simulated_weights(tmp_path / "simulated", study)
    assert final_weights(federation, study) == expected
