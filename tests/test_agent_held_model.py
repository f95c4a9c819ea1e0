"""A request that names its model by hash is the same job as one that holds it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from safetensors.numpy import load, save

from federation.messages import read_request, request_message, weights_sha256, write_arrays
from segfed.agent.held_model import hold_model, whole_request, with_model
from segfed.agent.refusal import RefusedError
from segfed.errors import WeightsError
from segfed.files import sha256_bytes
from segfed.protocol import CORRECTION_PREFIX, AgentErrorCode, RoundRequest
from tests.federation_samples import arrays

STUDY = "f" * 64
MODEL = save(arrays(2.0))


def scoring(model=MODEL):
    return RoundRequest(STUDY, 1, "validate", model)


def by_hash(weights=b"", model=MODEL):
    return RoundRequest(STUDY, 2, "train", weights, held_sha256=sha256_bytes(model))


def received(weights, held_sha256=""):
    """A request to train as the relay hands it over."""
    message = request_message(
        "train",
        write_arrays(weights),
        manifest_sha256=STUDY,
        round_number=2,
        node_id=5,
        held_sha256=held_sha256,
    )
    return read_request(message, "train")


@pytest.mark.parametrize(
    "correction", [{}, {CORRECTION_PREFIX + "b.scale": arrays(1.0)["b.scale"]}]
)
def test_model_and_correction_are_put_together_to_the_bytes_of_a_whole_request(
    tmp_path, correction
):
    hold_model(tmp_path, scoring())

    found = whole_request(tmp_path, received(correction, weights_sha256(arrays(2.0))))

    assert found == received({**arrays(2.0), **correction})
    assert found.job_id == received({**arrays(2.0), **correction}).job_id


def test_a_request_with_its_model_needs_none(tmp_path):
    assert whole_request(tmp_path, scoring()) == scoring()


def test_one_model_of_a_study_is_kept(tmp_path):
    newer = save(arrays(3.0))
    hold_model(tmp_path, scoring())
    hold_model(tmp_path, scoring(newer))

    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert load(whole_request(tmp_path, by_hash(model=newer)).weights)["b.scale"] == 3
    with pytest.raises(RefusedError, match="expected the server to send it whole") as refused:
        whole_request(tmp_path, by_hash())
    assert refused.value.code == AgentErrorCode.MODEL_NOT_HELD


def test_a_damaged_model_counts_as_none(tmp_path):
    hold_model(tmp_path, scoring())
    next(tmp_path.rglob("*.safetensors")).write_bytes(MODEL[:-1])

    with pytest.raises(RefusedError):
        whole_request(tmp_path, by_hash())


def test_a_model_of_another_study_counts_as_none(tmp_path):
    hold_model(tmp_path, scoring())

    with pytest.raises(RefusedError):
        whole_request(tmp_path, replace(by_hash(), manifest_sha256="e" * 64))


def test_a_correction_that_is_none_is_refused():
    with pytest.raises(WeightsError, match="not safetensors"):
        with_model(by_hash(b"noise"), MODEL)
