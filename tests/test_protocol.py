"""What parts say to each other."""

from __future__ import annotations

import pytest

from segfed.protocol import (
    PROTOCOL_VERSION,
    AgentError,
    AgentErrorCode,
    RoundRequest,
    common_version,
)
from tests.federation_samples import manifest


@pytest.mark.parametrize("code", list(AgentErrorCode))
def test_every_error_code_has_a_meaning_of_its_own(code):
    text = str(AgentError(code))

    assert text.endswith(f"(code {int(code)})")
    assert len({str(AgentError(other)) for other in AgentErrorCode}) == len(AgentErrorCode)


def test_a_manifest_is_named_by_its_content():
    assert manifest().sha256 == manifest().sha256
    assert manifest().sha256 != manifest(seed=1).sha256


def test_both_sides_speak_the_newest_version_that_both_know():
    assert common_version([PROTOCOL_VERSION, PROTOCOL_VERSION + 1]) == PROTOCOL_VERSION
    with pytest.raises(AgentError, match="code 1001"):
        common_version([PROTOCOL_VERSION + 1])


def test_a_job_is_named_by_what_it_asks_and_not_by_how_long_somebody_waits():
    first = RoundRequest("f" * 64, 1, "train", b"weights")
    others = [
        RoundRequest("e" * 64, 1, "train", b"weights"),
        RoundRequest("f" * 64, 2, "train", b"weights"),
        RoundRequest("f" * 64, 1, "validate", b"weights"),
        RoundRequest("f" * 64, 1, "train", b"other"),
    ]

    assert first.job_id == RoundRequest("f" * 64, 1, "train", b"weights", ttl_seconds=5).job_id
    assert len({first.job_id, *(other.job_id for other in others)}) == 5
