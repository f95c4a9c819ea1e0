"""A privacy budget over real processes: killed after the charge, spent, and ended truthfully."""

from __future__ import annotations

import threading

import pytest
from safetensors.numpy import load

from federation.agent_socket import SocketAgent
from segfed.privacy import read_charges, spent_epsilon, with_noise
from segfed.protocol import AgentError, AgentErrorCode
from segfed.rules import PrivacyRules
from tests.agent_samples import approve, bean_manifest, job, labelled_site, make_owner
from tests.deployment_samples import (
    SITES,
    federate,
    make_federation,
    processes,
    rounds_done,
    run_folder,
    running,
    signed_study,
    submit,
    until,
)
from tests.integration.test_agent_process import agent_process
from tests.socket_samples import short_folder

DELTA = 1e-2
STEPS = 25
"""Of a round: seconds on any machine, long enough to be killed in."""


def rules(*, rounds):
    """A budget that lasts for some rounds."""
    private = {"unit": "patient", "epsilon": 8.0, "delta": DELTA, "clip_norm": 1.0}
    privacy = PrivacyRules.model_validate({"differential_privacy": private})
    return with_noise(privacy, rounds=rounds, steps_per_round=STEPS).model_dump()


def spent(site_folder):
    """What the site's own file says was spent."""
    return spent_epsilon((item.mechanism for item in read_charges(site_folder)), delta=DELTA)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as httpcore does
def test_an_agent_killed_after_the_charge_goes_on_from_it_and_ends_with_the_budget(tmp_path):
    site = labelled_site(tmp_path)
    manifest = bean_manifest(tmp_path, steps_per_round=STEPS, privacy=rules(rounds=2))
    approve(site, manifest, key=make_owner(tmp_path))
    first = job(manifest, ttl_seconds=300)
    replies = []

    with short_folder() as folder:
        path = folder / "north.sock"
        relay = threading.Thread(target=lambda: replies.append(SocketAgent(path).answer(first)))
        with agent_process(site, path) as process:
            relay.start()
            until(lambda: read_charges(site.folder))
            process.kill()
            process.wait()
        charged = spent(site.folder)
        assert not list((site.folder / "cache").glob("jobs/*/train.json"))
        with agent_process(site, path):
            relay.join(300)
            again = SocketAgent(path).answer(first)
            second = SocketAgent(path).answer(
                job(manifest, round=2, weights=again.weights, ttl_seconds=300)
            )
            with pytest.raises(AgentError) as refused:
                SocketAgent(path).answer(
                    job(manifest, round=3, weights=second.weights, ttl_seconds=300)
                )

    assert 0 < charged <= replies[0].metrics["epsilon"]
    # A retry gets the same noised update.
    assert replies == [again]
    assert second.metrics["epsilon"] >= spent(site.folder) > charged
    assert refused.value.code == AgentErrorCode.BUDGET_SPENT
    assert [item.round for item in read_charges(site.folder)] == [1, 2]


@pytest.mark.soak
def test_a_federation_whose_agent_was_killed_ends_when_the_budget_is_spent(tmp_path):
    federation = make_federation(tmp_path)
    study = signed_study(
        federation, name="private", steps_per_round=STEPS, privacy=rules(rounds=2), rounds=3
    )
    outcome = []
    with running(federation):
        submission = threading.Thread(target=lambda: outcome.append(submit(federation, study)))
        submission.start()
        until(lambda: any(item.round == 2 for item in read_charges(federation.site(SITES[0]))))
        (agent,) = processes(f"federate agent {federation.site(SITES[0])}")
        agent.kill()
        submission.join()
        if outcome[0].returncode != 0:  # a relay that waited too long costs the round, no budget
            outcome[0] = submit(federation, study, "--resume")
        said = federate("status", federation.kit)

    assert outcome[0].returncode == 0, outcome[0].stderr
    records = rounds_done(federation, study)
    assert len(records) == 2
    for name in SITES:
        folder = federation.site(name)
        assert records[-1].sites[name]["epsilon"] >= spent(folder)
        assert [item.round for item in read_charges(folder)] == [1, 2]
    assert "the privacy budget is spent" in " ".join(said.split())
    assert load((run_folder(federation, study).run / "round_002.safetensors").read_bytes())
