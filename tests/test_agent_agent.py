"""A site's agent: what it answers, what it refuses, and what it keeps."""

from __future__ import annotations

import math

import pytest
import torch

from segfed.agent import AUDIT_FILE, read_audit
from segfed.engine import from_bytes
from segfed.engine.prediction import MeanDice
from segfed.protocol import AgentError, AgentErrorCode
from segfed.sites import submit_label
from tests.agent_samples import bean_manifest, job, labelled_site, make_agent
from tests.sites_samples import make_label


def test_training_sends_changed_weights_the_case_count_and_three_metrics(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    request = job(manifest)

    reply = make_agent(site, manifest).answer(request)

    assert reply.n_cases == 2
    assert set(reply.metrics) == {"loss", "seconds", "steps"}
    assert reply.metrics["steps"] == 2
    before, after = from_bytes(request.weights), from_bytes(reply.weights)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_mixed_study_trains_on_labels_of_both_arms(tmp_path):
    site = labelled_site(tmp_path)
    replies = {}
    for arm in ("manual", "mixed"):
        manifest = bean_manifest(tmp_path, arm=arm)
        replies[arm] = make_agent(site, manifest).answer(job(manifest))
        for case in site.split("train"):
            submit_label(
                site,
                case_id=case.case_id,
                label=make_label(size=2),
                origin="ai_corrected",
                reader="ben",
            )

    assert replies["manual"].n_cases == replies["mixed"].n_cases == 2
    assert replies["manual"].weights != replies["mixed"].weights


def test_validation_sends_dice_of_the_structures_and_no_weights(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)

    reply = make_agent(site, manifest).answer(job(manifest, "validate"))

    assert reply.weights == b""
    assert reply.n_cases == 1
    assert set(reply.metrics) <= {"dice_bean", "dice_core", "seconds"}
    assert all(math.isfinite(value) for value in reply.metrics.values())


def test_validation_before_training_leaves_the_network_trainable(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    agent = make_agent(site, manifest)

    agent.answer(job(manifest, "validate"))

    assert agent.answer(job(manifest)).n_cases == 2


def test_a_site_without_validation_cases_says_so_with_a_zero(tmp_path):
    site, manifest = labelled_site(tmp_path, splits=("train",)), bean_manifest(tmp_path)

    reply = make_agent(site, manifest).answer(job(manifest, "validate"))

    assert (reply.n_cases, reply.metrics) == (0, {})


def test_metrics_of_too_few_cases_stay_at_the_site(tmp_path):
    site = labelled_site(tmp_path, minimum_metric_cases=3)
    manifest = bean_manifest(tmp_path)
    agent = make_agent(site, manifest)

    assert set(agent.answer(job(manifest)).metrics) == {"seconds", "steps"}
    assert agent.answer(job(manifest, "validate")).metrics == {}


def test_a_structure_that_too_few_cases_define_stays_at_the_site(tmp_path, monkeypatch):
    splits = ("train", "validation", "validation")
    site = labelled_site(tmp_path, splits=splits, minimum_metric_cases=2)
    manifest = bean_manifest(tmp_path)
    means = {"bean": MeanDice(0.5, n_cases=2), "core": MeanDice(0.25, n_cases=1)}
    monkeypatch.setattr("segfed.agent.agent.validation_means", lambda *_, **__: means)

    reply = make_agent(site, manifest).answer(job(manifest, "validate"))

    assert reply.n_cases == 2
    assert set(reply.metrics) == {"dice_bean", "seconds"}


def test_metrics_leave_with_four_decimals(tmp_path, monkeypatch):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    means = {"bean": MeanDice(2 / 3, n_cases=1)}
    monkeypatch.setattr("segfed.agent.agent.validation_means", lambda *_, **__: means)
    agent = make_agent(site, manifest)

    metrics = [agent.answer(job(manifest, verb)).metrics for verb in ("train", "validate")]

    assert metrics[1]["dice_bean"] == 0.6667
    assert all(value == round(value, 4) for found in metrics for value in found.values())


def test_a_retry_gets_the_stored_update_even_from_a_new_process(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    first = make_agent(site, manifest).answer(job(manifest))

    # Training again would take another number of seconds.
    assert make_agent(site, manifest).answer(job(manifest)) == first


def test_a_new_process_goes_on_as_the_old_one_would_have(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    unbroken = make_agent(site, manifest)
    weights = unbroken.answer(job(manifest)).weights
    resumed = make_agent(site, manifest)
    second = job(manifest, round=2, weights=weights)

    found = resumed.answer(second)

    (site.folder / "cache").rename(tmp_path / "hidden")  # or the old agent would find the reply
    assert unbroken.answer(second).weights == found.weights


def test_a_site_that_missed_a_round_joins_again(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    agent = make_agent(site, manifest)
    weights = agent.answer(job(manifest)).weights

    assert agent.answer(job(manifest, round=3, weights=weights)).metrics["steps"] == 2


def test_a_slow_site_sends_what_it_has_in_every_round(tmp_path):
    site = labelled_site(tmp_path)
    manifest = bean_manifest(tmp_path, seconds_per_round=1e-6)
    agent = make_agent(site, manifest)

    first = agent.answer(job(manifest))
    second = agent.answer(job(manifest, round=2, weights=first.weights))

    assert (first.metrics["steps"], second.metrics["steps"]) == (1, 1)


def test_a_proximal_study_trains_other_weights(tmp_path):
    plain = bean_manifest(tmp_path)
    proximal = bean_manifest(tmp_path, federation={"proximal_mu": 100.0})
    site = labelled_site(tmp_path)

    replies = [make_agent(site, study).answer(job(study)) for study in (plain, proximal)]

    assert replies[0].weights != replies[1].weights


def test_sites_of_one_study_draw_different_patches(tmp_path):
    # Same cases, same start: only the site's name tells the two trainings apart.
    manifest = bean_manifest(tmp_path)
    north, south = (labelled_site(tmp_path, name=name) for name in ("north", "south"))

    replies = [make_agent(site, manifest).answer(job(manifest)) for site in (north, south)]

    assert replies[0].weights != replies[1].weights


def test_a_relabelled_case_makes_a_new_job(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    before = make_agent(site, manifest).answer(job(manifest))
    larger = make_label(size=5)
    submit_label(site, case_id="case0", label=larger, origin="manual", reader="ann")

    after = make_agent(site, manifest).answer(job(manifest))

    assert after.weights != before.weights


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"manifest_sha256": "0" * 64}, AgentErrorCode.UNKNOWN_STUDY),
        ({"round": 4}, AgentErrorCode.UNKNOWN_ROUND),
        ({"weights": b"not safetensors"}, AgentErrorCode.WEIGHTS_UNUSABLE),
    ],
)
def test_a_wrong_request_gets_a_code_and_a_line_in_the_audit_log(tmp_path, wrong, code):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)

    with pytest.raises(AgentError) as refused:
        make_agent(site, manifest).answer(job(manifest, **wrong))

    assert refused.value.code == code
    (entry,) = read_audit(site.folder / AUDIT_FILE)
    assert entry.kind == f"error {int(code)}"


def test_a_policy_is_checked_before_any_image_or_label_is_read(tmp_path):
    site, manifest = labelled_site(tmp_path, studies=("kidneys-*",)), bean_manifest(tmp_path)
    for name in ("images", "labels"):
        (site.folder / name).rename(tmp_path / name)

    with pytest.raises(AgentError) as refused:
        make_agent(site, manifest).answer(job(manifest))

    assert refused.value.code == AgentErrorCode.STUDY_NOT_ALLOWED


def test_the_text_of_a_failure_stays_in_the_log_of_the_site(tmp_path, caplog):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    (site.folder / "images" / "case0.nii.gz").unlink()

    with pytest.raises(AgentError) as failed:
        make_agent(site, manifest).answer(job(manifest))

    assert failed.value.code == AgentErrorCode.DATA_UNUSABLE
    assert "case0" in caplog.text
    assert "case0" not in str(failed.value)
    assert str(tmp_path) not in str(failed.value)


def test_an_unexpected_failure_is_a_code_too(tmp_path, monkeypatch, caplog):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)

    def fail(*_args, **_kwargs):
        raise ZeroDivisionError("patient Jane Doe")

    monkeypatch.setattr("segfed.agent.study_data.prepare", fail)

    with pytest.raises(AgentError) as failed:
        make_agent(site, manifest).answer(job(manifest))

    assert failed.value.code == AgentErrorCode.INTERNAL
    assert "Jane" not in str(failed.value)
    assert "Jane" in caplog.text


def test_nothing_leaves_when_the_audit_log_cannot_be_written(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    (site.folder / AUDIT_FILE).mkdir()

    with pytest.raises(AgentError) as failed:
        make_agent(site, manifest).answer(job(manifest))

    assert failed.value.code == AgentErrorCode.INTERNAL


def test_every_answer_has_its_line_in_the_audit_log(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    agent = make_agent(site, manifest)

    reply = agent.answer(job(manifest))
    agent.answer(job(manifest, "validate"))

    train, validate = read_audit(site.folder / AUDIT_FILE)
    assert (train.kind, validate.kind) == ("train", "validate")
    assert train.manifest_sha256 == manifest.sha256
    assert train.bytes > len(reply.weights)
