"""Failures at a site: the reason stays in the site's log, only a code leaves."""

from __future__ import annotations

from segfed.errors import (
    BudgetError,
    CaseError,
    ConfigError,
    FederationError,
    GeometryError,
    LabelError,
    LedgerError,
    PrivacyError,
    TrainingError,
    VolumeError,
    WeightsError,
)
from segfed.protocol import AgentErrorCode

_DATA_ERRORS = (CaseError, GeometryError, LabelError, LedgerError, VolumeError)


class RefusedError(FederationError):
    """The site will not do a job; the text is for the site's own log."""

    def __init__(self, code: AgentErrorCode, reason: str) -> None:
        """Keep what the server is told beside what it is not."""
        super().__init__(reason)
        self.code = code


def code_of(error: Exception) -> AgentErrorCode:
    """The code that tells a server as much about a failure as it may know."""
    if isinstance(error, RefusedError):
        return error.code
    if isinstance(error, _DATA_ERRORS):
        return AgentErrorCode.DATA_UNUSABLE
    if isinstance(error, WeightsError):
        return AgentErrorCode.WEIGHTS_UNUSABLE
    if isinstance(error, TrainingError):
        return AgentErrorCode.TRAINING_FAILED
    if isinstance(error, PrivacyError):
        return AgentErrorCode.STAGE_REFUSED
    if isinstance(error, BudgetError):
        return AgentErrorCode.BUDGET_SPENT
    if isinstance(error, ConfigError):
        return AgentErrorCode.TASK_MISMATCH
    return AgentErrorCode.INTERNAL
