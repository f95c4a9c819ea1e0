"""A federation of real processes over TLS on the loopback interface, from kits to weights."""

from __future__ import annotations

import json

import pytest

from tests.deployment_samples import (
    SITES,
    federate,
    final_weights,
    killed_in_round,
    make_federation,
    running,
    signed_study,
    simulated_weights,
    submit,
)

ROUNDS = 2


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """Server and two sites that stay for all tests here."""
    with running(make_federation(tmp_path_factory.mktemp("federation"))) as ready:
        yield ready
    # What was started is gone: a stopped server has let go of its port.
    for name in SITES:
        assert "The site has left the federation." in ready.said(name)
    assert "The server has stopped." in ready.said("server")


def test_a_study_across_processes_ends_with_the_weights_of_its_simulation(federation, tmp_path):
    study = signed_study(federation, name="whole", rounds=ROUNDS)

    done = submit(federation, study)

    assert done.returncode == 0, done.stderr
    assert f"Round {ROUNDS} of {ROUNDS}: validation Dice" in done.stdout
    assert final_weights(federation, study) == simulated_weights(tmp_path / "simulated", study)
    status = json.loads(federate("status", federation.kit, "--json"))
    assert (status["state"], status["rounds_done"]) == ("finished", ROUNDS)
    assert {site["online"] for site in status["sites"].values()} == {True}
    assert min(site["bytes_up"] for site in status["sites"].values()) > 0


def test_a_run_whose_server_process_is_killed_fails_truthfully_and_goes_on(federation, tmp_path):
    study = signed_study(federation, name="killed", rounds=ROUNDS, seed=11)

    killed = killed_in_round(federation, study, number=2, victim="flwr-serverapp")
    resumed = submit(federation, study, "--resume")

    assert killed.returncode == 1
    assert "gone without a word" in " ".join(killed.stderr.split())
    assert resumed.returncode == 0, resumed.stderr
    assert final_weights(federation, study) == simulated_weights(tmp_path / "simulated", study)
