"""Which code stands for which failure."""

from __future__ import annotations

import pytest

from segfed.agent.refusal import RefusedError, code_of
from segfed.errors import (
    CaseError,
    ConfigError,
    LedgerError,
    TrainingError,
    VolumeError,
    WeightsError,
)
from segfed.protocol import AgentErrorCode


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError(AgentErrorCode.TOO_FEW_CASES, "2 of 5"), AgentErrorCode.TOO_FEW_CASES),
        (CaseError("case0"), AgentErrorCode.DATA_UNUSABLE),
        (VolumeError("case0"), AgentErrorCode.DATA_UNUSABLE),
        (LedgerError("case0"), AgentErrorCode.DATA_UNUSABLE),
        (WeightsError("shape"), AgentErrorCode.WEIGHTS_UNUSABLE),
        (TrainingError("NaN"), AgentErrorCode.TRAINING_FAILED),
        (ConfigError("plan"), AgentErrorCode.TASK_MISMATCH),
        (MemoryError("case0"), AgentErrorCode.INTERNAL),
    ],
)
def test_a_failure_is_told_by_its_kind_alone(error, code):
    assert code_of(error) == code
