"""The site's gate: every answer is in the audit log before it leaves, a failure as a code."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from segfed.agent.audit import AUDIT_FILE, Clock, append_entry
from segfed.agent.egress import payload
from segfed.agent.refusal import code_of
from segfed.errors import SegfedError
from segfed.protocol import AgentError, AgentErrorCode, RoundReply, RoundRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Departures:
    """What leaves one site."""

    site_folder: Path
    clock: Clock
    recipient: str | None = None
    """Where to, in the words of the audit log; None as long as no approved study is known."""

    def reply(self, request: RoundRequest, reply: RoundReply) -> RoundReply:
        """Record a reply; returns it with the head that the audit log has then.

        The head is the only text that leaves, and only this function sets it.

        Raises:
            AgentError: If it cannot be recorded, so that it must not leave.
        """
        head = self._record(request, request.verb, payload(reply))
        return replace(reply, audit_head=head)

    def failure(self, request: RoundRequest, error: Exception) -> AgentError:
        """Explain a failure in the site's own log and record the code that leaves; returns it."""
        self._explain(request, error)
        code = code_of(error)
        self._record(request, f"error {int(code)}", str(int(code)).encode())
        return AgentError(code)

    def _explain(self, request: RoundRequest, error: Exception) -> None:
        """The reason of a failure; a traceback only for the unexpected."""
        logger.error(
            "Site %s did not %s in round %d: %s",
            self.site_folder.name,
            request.verb,
            request.round,
            error,
            exc_info=None if isinstance(error, SegfedError) else error,
        )

    def _record(self, request: RoundRequest, kind: str, content: bytes) -> str:
        """One line in the audit log, without which nothing leaves; returns the log's head."""
        try:
            return append_entry(
                self.site_folder / AUDIT_FILE,
                time=self.clock(),
                manifest_sha256=request.manifest_sha256,
                round_number=request.round,
                kind=kind,
                content=content,
                recipient=self.recipient,
                server_head=request.server_head or None,
            )
        except (OSError, SegfedError) as error:
            self._explain(request, error)
            raise AgentError(AgentErrorCode.INTERNAL) from None
