"""Processes killed at work, and final weights that are those of an unbroken run."""

from __future__ import annotations

import pytest

from tests.deployment_samples import (
    RELAY,
    final_weights,
    killed_in_round,
    make_federation,
    running,
    signed_study,
    simulated_weights,
    submit,
)

# Seconds of training on any machine, so that a round is on when a process is killed.
STEPS = 300


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """Server and two sites that stay for all tests here."""
    with running(make_federation(tmp_path_factory.mktemp("federation"))) as ready:
        yield ready


@pytest.mark.parametrize(
    ("name", "victim", "number"),
    [
        ("server", "flower-superlink", 2),
        pytest.param("agent", "federate agent", 1, marks=pytest.mark.soak),
        pytest.param("relay", RELAY, 1, marks=pytest.mark.soak),
        pytest.param("node", "flower-supernode", 1, marks=pytest.mark.soak),
        # The newest is a node's; it starts the relays.
        pytest.param("executor", "flower-superexec", 1, marks=pytest.mark.soak),
    ],
)
def test_a_killed_process_costs_at_most_its_round(federation, tmp_path, name, victim, number):
    study = signed_study(
        federation,
        name=name,
        rounds=number,
        steps_per_round=STEPS,
        federation={"round_deadline_seconds": 90},
    )

    done = killed_in_round(federation, study, number=number, victim=victim)
    if done.returncode != 0:
        done = submit(federation, study, "--resume")

    assert done.returncode == 0, done.stderr
    assert final_weights(federation, study) == simulated_weights(tmp_path / "simulated", study)
