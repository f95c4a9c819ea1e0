"""The relay's connection to an agent behind a Unix socket. Light: no torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from segfed.protocol import (
    AgentError,
    AgentErrorCode,
    AgentGreeting,
    JobAnswer,
    RoundReply,
    RoundRequest,
    common_version,
)

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.5
# Longer than an agent may take to say anything, not than a job may take.
_SILENCE_SECONDS = 60.0
_PIECE_BYTES = 256 * 1024


class SocketAgent:
    """An agent in another process; implements ``segfed.protocol.AgentConnection``.

    An agent that is away, starts again or is at another job is asked again until nobody waits for
    the reply any more. That is safe: a job that is posted twice is done once.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the path of the agent's socket; nothing is opened yet."""
        self._path = path
        self._clock = clock
        self._sleep = sleep

    def answer(self, request: RoundRequest) -> RoundReply:
        """Have the agent do the job, and wait for it as long as the request's sender does.

        Raises:
            AgentError: With the agent's code, or with ``INTERNAL`` if it cannot be reached, does
                not let this user in, or is not done in time.
        """
        deadline = self._clock() + request.ttl_seconds
        transport = httpx.HTTPTransport(uds=str(self._path))
        with httpx.Client(
            transport=transport, base_url="http://agent", timeout=_SILENCE_SECONDS
        ) as client:
            url: str | None = None
            for pause in _pauses():
                obstacle = "its job is not done"
                try:
                    url = url or _post(client, request)
                    answer = _ask(client, url) if url else None
                    reply = _reply(client, url, answer) if url and answer else None
                    if reply is not None:
                        return reply
                    # An agent that started anew knows nothing of the job.
                    url = url if answer else None
                except httpx.TransportError as error:
                    url, obstacle = None, f"{type(error).__name__}: {error}"
                remaining = deadline - self._clock()
                if remaining <= 0:
                    break
                self._sleep(min(pause, remaining))
        logger.error(
            "The agent at %s gave no reply within %.0f seconds: %s. Start it with `segfed federate "
            "agent`, or give the round more time.",
            self._path,
            request.ttl_seconds,
            obstacle,
        )
        raise AgentError(AgentErrorCode.INTERNAL)


def _post(client: httpx.Client, request: RoundRequest) -> str | None:
    """Hand over the job; returns its address, or None while the agent is at another one."""
    greeting = AgentGreeting.model_validate_json(_checked(client.get("/")).content)
    jobs = f"/v{common_version(greeting.protocol)}/jobs"
    response = client.post(
        jobs,
        params={
            "manifest": request.manifest_sha256,
            "round": request.round,
            "verb": request.verb,
            "head": request.server_head,
            "held": request.held_sha256,
        },
        # In pieces: httpcore copies what is left of a piece at every write.
        content=_pieces(request.weights),
        headers={"Content-Length": str(len(request.weights))},
    )
    if response.status_code == httpx.codes.CONFLICT:
        return None
    return f"{jobs}/{JobAnswer.model_validate_json(_checked(response).content).job}"


def _pieces(content: bytes) -> Iterator[bytes]:
    """The content, cut."""
    for start in range(0, len(content), _PIECE_BYTES):
        yield content[start : start + _PIECE_BYTES]


def _ask(client: httpx.Client, url: str) -> JobAnswer | None:
    """How far the job is; None if the agent does not know it."""
    response = client.get(url)
    if response.status_code == httpx.codes.NOT_FOUND:
        return None
    return JobAnswer.model_validate_json(_checked(response).content)


def _reply(client: httpx.Client, url: str, answer: JobAnswer) -> RoundReply | None:
    """The reply of a job that is done; None while it runs.

    Raises:
        AgentError: If it failed.
    """
    if answer.state == "failed":
        raise AgentError(_known_code(answer.code))
    if answer.state == "running":
        return None
    weights = b""
    if answer.weights_bytes:
        weights = _checked(client.get(f"{url}/weights")).content
    return RoundReply(weights, answer.n_cases, answer.metrics, audit_head=answer.audit_head)


def _checked(response: httpx.Response) -> httpx.Response:
    """A response that is no refusal.

    Raises:
        AgentError: With the code that the agent states, or ``INTERNAL``.
    """
    if response.is_success:
        return response
    if response.status_code == httpx.codes.FORBIDDEN:
        logger.error(
            "The agent sends this user away, expected to be let in. Add its number to peers in "
            "the [agent] table of the site's site.toml."
        )
    try:
        code = response.json()["code"]
    except (ValueError, KeyError, TypeError):
        code = AgentErrorCode.INTERNAL
    raise AgentError(_known_code(code))


def _known_code(code: object) -> AgentErrorCode:
    """A code of this release; a site's newer one says no more than that something failed."""
    return next((item for item in AgentErrorCode if item == code), AgentErrorCode.INTERNAL)


def _pauses() -> Iterator[float]:
    """Seconds between questions, ever longer up to a limit."""
    seconds = _FIRST_PAUSE_SECONDS
    while True:
        yield seconds
        seconds = min(seconds * 1.5, _LONGEST_PAUSE_SECONDS)
