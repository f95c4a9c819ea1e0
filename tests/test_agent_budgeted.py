"""A site's training under a privacy budget."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

import segfed.agent.budgeted as budgeted
from segfed.agent.budgeted import by_patient
from segfed.agent.study_data import StudyData
from segfed.engine import from_bytes
from segfed.privacy import read_charges, spent_epsilon, with_noise
from segfed.protocol import AgentError, AgentErrorCode
from segfed.rules import PrivacyRules
from tests.agent_samples import bean_manifest, job, labelled_site, make_agent

PATIENT = {"unit": "patient", "epsilon": 8.0, "delta": 1e-2, "clip_norm": 1.0}
"""Of whichever two training patients the sites of these tests have."""

SITE = {
    "clip_norm": 1.0,
    "secure_aggregation": True,
    "threshold": 2,
    "differential_privacy": {"unit": "site", "epsilon": 8.0, "delta": 1e-2},
}


def private_manifest(folder, *, privacy=None, **changes):
    """Three rounds of two steps whose budget lasts for all of them, and for no more."""
    rules = PrivacyRules.model_validate(privacy or {"differential_privacy": PATIENT})
    resolved = with_noise(rules, rounds=3, steps_per_round=2)
    return bean_manifest(folder, privacy=resolved.model_dump(), **changes)


def epsilon_of(site, manifest):
    """What the site's file says that the study has spent."""
    charges = [c for c in read_charges(site.folder) if c.manifest_sha256 == manifest.sha256]
    return spent_epsilon((c.mechanism for c in charges), delta=1e-2)


def refused(agent, request):
    """The code of a refusal."""
    with pytest.raises(AgentError) as error:
        agent.answer(request)
    return error.value.code


def test_nothing_leaves_beside_noised_weights_but_patients_steps_and_what_is_spent(tmp_path):
    site, manifest = labelled_site(tmp_path), private_manifest(tmp_path)

    reply = make_agent(site, manifest).answer(job(manifest))

    assert reply.n_cases == 2
    assert reply.metrics.keys() == {"steps", "epsilon"}
    assert reply.metrics["epsilon"] >= epsilon_of(site, manifest) > 0
    start, end = from_bytes(job(manifest).weights), from_bytes(reply.weights)
    assert not any(torch.equal(start[name], end[name]) for name in start)


def test_a_budget_lasts_for_the_planned_rounds_and_ends_there(tmp_path):
    site, manifest = labelled_site(tmp_path), private_manifest(tmp_path)
    agent = make_agent(site, manifest)
    request = job(manifest)
    for number in (1, 2, 3):
        reply = agent.answer(replace(request, round=number))
    assert 7.5 < reply.metrics["epsilon"] <= 8

    other_model = job(manifest, round=3, weights=reply.weights)
    assert refused(agent, other_model) == AgentErrorCode.BUDGET_SPENT
    # A stored update is the same one: to send it again tells nothing new.
    assert agent.answer(replace(request, round=3)) == reply
    assert epsilon_of(site, manifest) <= 8


def test_a_failure_in_the_middle_costs_once_and_an_update_that_left_twice(tmp_path, monkeypatch):
    site, manifest = labelled_site(tmp_path), private_manifest(tmp_path)
    failing = make_agent(site, manifest)

    def fail(*_, **__):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(budgeted, "private_steps", fail)
        assert refused(failing, job(manifest)) == AgentErrorCode.INTERNAL
    once = epsilon_of(site, manifest)
    assert once > 0

    make_agent(site, manifest).answer(job(manifest))
    assert epsilon_of(site, manifest) == once
    shutil.rmtree(site.folder / "cache")  # the update that left is gone: noise is drawn anew
    make_agent(site, manifest).answer(job(manifest))
    assert epsilon_of(site, manifest) > once


def test_the_hospitals_own_limit_counts_all_studies_and_admits_none_without_a_budget(tmp_path):
    site = labelled_site(tmp_path, maximum_epsilon=8.1, maximum_delta=1e-2)
    first = private_manifest(tmp_path)
    agent = make_agent(site, first)
    for number in (1, 2, 3):
        agent.answer(job(first, round=number))

    second = private_manifest(tmp_path, seed=4)
    assert refused(make_agent(site, second), job(second)) == AgentErrorCode.BUDGET_SPENT
    without = bean_manifest(tmp_path)
    assert refused(make_agent(site, without), job(without)) == AgentErrorCode.STUDY_NOT_ALLOWED


@pytest.mark.parametrize("changes", [{"delta": 0.09}, {"noise_multiplier": None}], ids=str)
def test_a_promise_that_promises_nothing_is_refused(tmp_path, changes):
    splits = ("train",) * 12
    site = labelled_site(tmp_path, splits=splits)
    private = PATIENT | {"noise_multiplier": 5.0} | changes
    manifest = bean_manifest(tmp_path, privacy={"differential_privacy": private})

    assert refused(make_agent(site, manifest), job(manifest)) == AgentErrorCode.STUDY_NOT_ALLOWED
    assert read_charges(site.folder) == ()


def test_a_site_as_unit_shows_neither_cases_nor_scores(tmp_path):
    site, manifest = (
        labelled_site(tmp_path),
        private_manifest(tmp_path, privacy=SITE, federation={"weighting": "sites"}),
    )
    agent = make_agent(site, manifest)

    trained, validated = agent.answer(job(manifest)), agent.answer(job(manifest, "validate"))

    assert (trained.n_cases, trained.metrics.keys()) == (1, {"steps", "epsilon"})
    assert trained.weights == b""  # under masks, later
    assert (validated.n_cases, validated.metrics) == (0, {})
    (charged,) = read_charges(site.folder)
    assert (charged.steps, charged.sampling_rate, charged.released) == (1, 1.0, True)


def test_cases_of_one_patient_are_one_unit(tmp_path):
    site = labelled_site(tmp_path)
    first, second = StudyData(site, bean_manifest(tmp_path)).train_labels
    same = replace(second, case=replace(second.case, patient_id=first.case.patient_id))

    assert by_patient(("x", "y"), (first, second)) == (("x",), ("y",))
    assert by_patient(("x", "y"), (first, same)) == (("x", "y"),)
