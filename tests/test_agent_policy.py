"""What a hospital's policy refuses."""

from __future__ import annotations

import pytest

from segfed.agent.policy import check_case_count, check_request
from segfed.agent.refusal import RefusedError
from segfed.protocol import AgentErrorCode
from tests.agent_samples import bean_manifest, job, labelled_site


def refusal(site, manifest, **request):
    with pytest.raises(RefusedError) as refused:
        check_request(site, manifest, job(manifest, **request))
    return refused.value


def test_an_allowed_study_passes_and_its_plan_is_read(tmp_path):
    site, manifest = labelled_site(tmp_path, splits=(), studies=("be*",)), bean_manifest(tmp_path)

    assert check_request(site, manifest, job(manifest)).task == "bean"


def test_a_study_that_no_pattern_names_is_refused(tmp_path):
    site = labelled_site(tmp_path, splits=(), studies=("kidney-*", "Beans"))

    found = refusal(site, bean_manifest(tmp_path))

    assert found.code == AgentErrorCode.STUDY_NOT_ALLOWED
    assert "kidney-*, Beans" in str(found)


def test_a_study_shorter_than_the_policy_asks_for_is_refused(tmp_path):
    site = labelled_site(tmp_path, splits=(), minimum_rounds=4)

    found = refusal(site, bean_manifest(tmp_path))

    assert found.code == AgentErrorCode.STUDY_NOT_ALLOWED
    assert "3 rounds are fewer than the 4" in str(found)


def test_an_external_site_never_trains(tmp_path):
    site = labelled_site(tmp_path, splits=(), external=True)

    assert refusal(site, bean_manifest(tmp_path)).code == AgentErrorCode.STUDY_NOT_ALLOWED


@pytest.mark.parametrize("number", [0, 4])
def test_a_round_outside_the_study_is_refused(tmp_path, number):
    site = labelled_site(tmp_path, splits=())

    found = refusal(site, bean_manifest(tmp_path), round=number)

    assert found.code == AgentErrorCode.UNKNOWN_ROUND


@pytest.mark.parametrize(
    ("part", "value"),
    [("structures", {"bean": [1, 2]}), ("channels", ["t2"]), ("labels", {"skin": 1, "core": 3})],
)
def test_a_plan_that_reads_the_data_differently_is_refused(tmp_path, part, value):
    site, manifest = labelled_site(tmp_path, splits=()), bean_manifest(tmp_path)
    other = manifest.model_copy(update={"plan": manifest.plan | {part: value}})

    found = refusal(site, other)

    assert found.code == AgentErrorCode.TASK_MISMATCH
    assert part in str(found)


def test_the_task_of_the_manifest_must_be_the_site_s(tmp_path):
    site = labelled_site(tmp_path, splits=())

    found = refusal(site, bean_manifest(tmp_path, task="kidney_tumor"))

    assert found.code == AgentErrorCode.TASK_MISMATCH


def test_fewer_cases_than_the_policy_asks_for_do_not_train(tmp_path):
    site = labelled_site(tmp_path, splits=(), minimum_train_cases=5)

    check_case_count(site, 5)
    with pytest.raises(RefusedError, match=r"has 4 training cases.*at least 5") as refused:
        check_case_count(site, 4)

    assert refused.value.code == AgentErrorCode.TOO_FEW_CASES
