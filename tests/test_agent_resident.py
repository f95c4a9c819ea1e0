"""The agent that serves whichever study is approved."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest
import torch

from segfed.agent import AUDIT_FILE, read_audit
from segfed.agent.resident import ResidentAgent
from segfed.files import sha256_bytes
from segfed.protocol import AgentError, AgentErrorCode
from tests.agent_samples import (
    NOON,
    approve,
    bean_manifest,
    job,
    labelled_site,
    make_owner,
    start_weights,
)


def make_resident(site):
    return ResidentAgent(site.folder, device=torch.device("cpu"), clock=lambda: NOON)


def test_an_approved_study_is_served_and_another_is_refused_in_the_audit_log(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    approve(site, manifest, key=make_owner(tmp_path))
    resident, other = make_resident(site), manifest.model_copy(update={"seed": 9})

    reply = resident.answer(job(manifest, "validate"))
    with pytest.raises(AgentError) as refused:
        resident.answer(job(other))

    assert reply.n_cases == 1
    assert refused.value.code == AgentErrorCode.UNKNOWN_STUDY
    served, error = read_audit(site.folder / AUDIT_FILE)
    assert (served.kind, error.kind) == ("validate", "error 1002")
    assert re.fullmatch("study beans, server of owner [(]key [0-9a-f]{16}[)]", served.recipient)
    assert error.recipient is None
    assert reply.audit_head == served.hash
    assert error.manifest_sha256 == other.sha256


def test_a_refusal_counts_at_the_next_job(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    key, resident = make_owner(tmp_path), make_resident(site)
    approve(site, manifest, key=key)
    resident.answer(job(manifest, "validate"))

    approve(site, manifest, key=key, approved=False)

    with pytest.raises(AgentError) as refused:
        resident.answer(job(manifest, "validate"))
    assert refused.value.code == AgentErrorCode.UNKNOWN_STUDY


def test_a_stricter_policy_counts_at_the_next_job(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    resident, settings = make_resident(site), site.folder / "site.toml"
    approve(site, manifest, key=make_owner(tmp_path))
    resident.answer(job(manifest, "validate"))

    settings.write_text(settings.read_text().replace("minimum_rounds = 1", "minimum_rounds = 4"))

    with pytest.raises(AgentError) as refused:
        resident.answer(job(manifest, "validate"))
    assert refused.value.code == AgentErrorCode.STUDY_NOT_ALLOWED


def test_study_and_network_stay_warm_between_jobs(tmp_path, monkeypatch):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    approve(site, manifest, key=make_owner(tmp_path))
    resident = make_resident(site)
    resident.answer(job(manifest, "validate"))
    monkeypatch.setattr("segfed.agent.resident.Agent", None)

    # Another agent could not be made.
    assert resident.answer(job(manifest, "validate", round=2)).n_cases == 1


def other_weights(manifest):
    """A model of the study's network that is not its start."""
    return start_weights(manifest.model_copy(update={"seed": manifest.seed + 1}))


@pytest.mark.parametrize(
    ("first", "then"),
    [(1, 1), (2, 1), (3, 3), (3, 2)],
)
def test_a_round_is_trained_once_and_from_one_model(tmp_path, first, then):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    approve(site, manifest, key=make_owner(tmp_path))
    reply = make_resident(site).answer(job(manifest, round=first))
    shutil.rmtree(site.folder / "cache")  # which may be emptied at any time

    with pytest.raises(AgentError) as refused:
        make_resident(site).answer(job(manifest, round=then, weights=other_weights(manifest)))

    assert reply.n_cases == 2
    assert refused.value.code == AgentErrorCode.UNKNOWN_ROUND


def test_a_server_that_goes_on_repeats_a_job_and_takes_the_next_round(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    approve(site, manifest, key=make_owner(tmp_path))
    resident = make_resident(site)

    first = resident.answer(job(manifest))
    again = resident.answer(job(manifest))
    following = resident.answer(job(manifest, round=3, weights=first.weights))

    assert again == first
    assert following.n_cases == 2


def by_hash(request):
    """The same request, of a server that knows that the site has the model."""
    return replace(request, weights=b"", held_sha256=sha256_bytes(request.weights))


def test_a_model_that_was_scored_is_trained_by_its_hash_also_after_a_restart(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    approve(site, manifest, key=make_owner(tmp_path))
    make_resident(site).answer(job(manifest, "validate"))
    request = job(manifest, round=2)

    reply = make_resident(site).answer(by_hash(request))

    # The very same job: a retry with the whole model is answered from store.
    assert make_resident(site).answer(request) == reply
    assert reply.n_cases == 2


def test_a_model_that_is_gone_is_asked_for_and_costs_the_site_nothing(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    approve(site, manifest, key=make_owner(tmp_path))
    resident, request = make_resident(site), job(manifest, round=2)
    resident.answer(job(manifest, "validate"))
    shutil.rmtree(site.folder / "cache")

    with pytest.raises(AgentError) as refused:
        resident.answer(by_hash(request))

    assert refused.value.code == AgentErrorCode.MODEL_NOT_HELD
    assert read_audit(site.folder / AUDIT_FILE)[-1].kind == "error 1012"
    assert resident.answer(request).n_cases == 2


def test_a_round_that_the_study_lacks_does_not_hold_up_the_others(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    approve(site, manifest, key=make_owner(tmp_path))
    resident = make_resident(site)

    with pytest.raises(AgentError) as refused:
        resident.answer(job(manifest, round=manifest.rounds + 1))

    assert refused.value.code == AgentErrorCode.UNKNOWN_ROUND
    assert resident.answer(job(manifest)).n_cases == 2


def test_a_server_cannot_have_any_number_of_models_scored(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    approve(site, manifest, key=make_owner(tmp_path))
    models = [start_weights(manifest.model_copy(update={"seed": seed})) for seed in range(4)]
    for weights in models[:3]:
        make_resident(site).answer(job(manifest, "validate", weights=weights))

    with pytest.raises(AgentError) as refused:
        make_resident(site).answer(job(manifest, "validate", weights=models[3]))

    assert refused.value.code == AgentErrorCode.UNKNOWN_ROUND
    again = make_resident(site).answer(job(manifest, "validate", weights=models[0]))
    assert again.n_cases == 1
