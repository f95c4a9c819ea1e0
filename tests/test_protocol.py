"""What parts say to each other."""

from __future__ import annotations

import pytest

from segfed.protocol import AgentError, AgentErrorCode
from tests.federation_samples import manifest


@pytest.mark.parametrize("code", list(AgentErrorCode))
def test_every_error_code_has_a_meaning_of_its_own(code):
    text = str(AgentError(code))

    assert text.endswith(f"(code {int(code)})")
    assert len({str(AgentError(other)) for other in AgentErrorCode}) == len(AgentErrorCode)


def test_a_manifest_is_named_by_its_content():
    assert manifest().sha256 == manifest().sha256
    assert manifest().sha256 != manifest(seed=1).sha256
