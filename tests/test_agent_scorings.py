"""How many models a server may have a site score."""

from __future__ import annotations

import pytest

from segfed.agent.refusal import RefusedError
from segfed.agent.scorings import take_scoring
from segfed.protocol import AgentErrorCode, RoundRequest

STUDY = "f" * 64


def score(folder, model, *, number=1, study=STUDY):
    take_scoring(folder, RoundRequest(study, number, "validate", model.encode()))


def refusal(folder, model, *, number=1):
    with pytest.raises(RefusedError) as refused:
        score(folder, model, number=number)
    assert refused.value.code == AgentErrorCode.UNKNOWN_ROUND
    return str(refused.value)


def test_three_models_are_scored_in_a_round_each_as_often_as_asked(tmp_path):
    for model in ("a", "b", "a", "c", "b", "c"):
        score(tmp_path, model)

    assert "after 3 models in round 1" in refusal(tmp_path, "d")
    score(tmp_path, "a")


def test_the_next_round_has_its_own_models_and_the_one_before_has_no_more(tmp_path):
    score(tmp_path, "a")
    score(tmp_path, "b", number=2)

    refusal(tmp_path, "a", number=1)
    score(tmp_path, "a", number=2)


def test_studies_do_not_use_up_each_others_models(tmp_path):
    for model in ("a", "b", "c"):
        score(tmp_path, model)

    score(tmp_path, "d", study="e" * 64)
