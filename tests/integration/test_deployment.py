"""A federation of real processes over TLS on the loopback interface, from kits to weights."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest

from tests.deployment_samples import (
    SITES,
    federate,
    make_federation,
    processes,
    rounds_done,
    run_folder,
    running,
    signed_study,
    simulated_weights,
    submit,
    until,
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


def final_weights(federation, study):
    """The last round's weights, as the server wrote them."""
    return (run_folder(federation, study).run / f"round_{ROUNDS:03d}.safetensors").read_bytes()


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
    outcome: list[subprocess.CompletedProcess[str]] = []
    submission = threading.Thread(target=lambda: outcome.append(submit(federation, study)))
    submission.start()

    until(lambda: rounds_done(federation, study))
    (server,) = processes("flwr-serverapp")
    server.kill()
    submission.join()
    resumed = submit(federation, study, "--resume")

    (killed,) = outcome
    assert killed.returncode == 1
    assert "gone without a word" in killed.stderr
    assert resumed.returncode == 0, resumed.stderr
    assert final_weights(federation, study) == simulated_weights(tmp_path / "simulated", study)
