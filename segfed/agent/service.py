"""The agent behind HTTP: a round request is a job that is posted once and then asked after."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import get_args

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from segfed.protocol import (
    PROTOCOL_VERSION,
    SUPPORTED_VERSIONS,
    AgentConnection,
    AgentError,
    AgentErrorCode,
    AgentGreeting,
    JobAnswer,
    RoundReply,
    RoundRequest,
    Verb,
    is_sha256,
)

logger = logging.getLogger(__name__)

_VERBS: dict[str, Verb] = {verb: verb for verb in get_args(Verb)}
_UPLOAD_SECONDS = 300.0
_JOBS = f"/v{PROTOCOL_VERSION}/jobs"


@dataclass(frozen=True)
class _Job:
    """A job and where its reply will be."""

    job_id: str
    reply: Future[RoundReply]

    @property
    def failed(self) -> bool:
        """Whether it ended without a reply."""
        return self.reply.done() and self.reply.exception() is not None


class JobDesk:
    """Runs one job at a time in a thread of its own, so that questions are answered meanwhile.

    It lives in the thread of the event loop. A job goes on when nobody asks after it any more.
    Only the last one is remembered: the agent itself stores what a retry of an earlier one needs.
    """

    def __init__(self, agent: AgentConnection) -> None:
        """Take the agent that does the work."""
        self._agent = agent
        # One thread for all jobs: torch keeps a pool of helpers for each thread that calls it.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agent")
        self._job: _Job | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return self._job is not None and not self._job.reply.done()

    def submit(self, request: RoundRequest, job_id: str) -> bool:
        """Begin a job, unless it is there already; False while another one runs.

        One that failed begins anew: what made it fail may be gone.
        """
        known = self._job is not None and self._job.job_id == job_id and not self._job.failed
        if not known and self.is_busy:
            return False
        if not known:
            self._job = _Job(job_id, self._worker.submit(self._answer, request))
        return True

    def state(self, job_id: str) -> JobAnswer | None:
        """What is known of a job; None if it is not the last one."""
        job = self._job
        if job is None or job.job_id != job_id:
            return None
        if not job.reply.done():
            return JobAnswer(job=job_id, state="running")
        error = job.reply.exception()
        if error is not None:
            code = error.code if isinstance(error, AgentError) else AgentErrorCode.INTERNAL
            return JobAnswer(job=job_id, state="failed", code=int(code))
        reply = job.reply.result()
        return JobAnswer(
            job=job_id,
            state="done",
            n_cases=reply.n_cases,
            metrics=reply.metrics,
            weights_bytes=len(reply.weights),
            audit_head=reply.audit_head,
        )

    def weights(self, job_id: str) -> bytes | None:
        """The weights of the last job, if that is the one and it is done."""
        job = self._job
        if job is None or job.job_id != job_id or not job.reply.done() or job.failed:
            return None
        return job.reply.result().weights

    def _answer(self, request: RoundRequest) -> RoundReply:
        """The agent's answer, with a line in the log before and after."""
        logger.info("Round %d: %s begins", request.round, request.verb)
        reply = self._agent.answer(request)
        logger.info("Round %d: %s done on %d cases", request.round, request.verb, reply.n_cases)
        return reply


def create_app(desk: JobDesk, *, largest_message_bytes: int) -> Starlette:
    """The agent as an ASGI app.

    ``GET /`` greets; ``POST /v2/jobs?manifest=…&round=…&verb=…&head=…&held=…``, whose body is
    safetensors, begins a job; ``GET /v2/jobs/<id>`` asks after it; ``GET /v2/jobs/<id>/weights``
    fetches its weights.
    A refusal holds a code and no text. Status 409: another job runs; 413: too large.

    Args:
        desk: Runs the jobs.
        largest_message_bytes: A larger body is refused before it is in memory.
    """
    uploads = asyncio.Semaphore(1)  # however many post at once, one body is in memory

    async def greet(_request: Request) -> Response:
        return _json(AgentGreeting(protocol=SUPPORTED_VERSIONS, busy=desk.is_busy))

    async def post_job(request: Request) -> Response:
        asked = _read_query(request)
        if asked is None:
            return _refusal(AgentErrorCode.PROTOCOL_MISMATCH, status=400)
        async with uploads:
            try:
                async with asyncio.timeout(_UPLOAD_SECONDS):
                    body = await _read_body(request, largest=largest_message_bytes)
            except (TimeoutError, ClientDisconnect):  # a relay may be killed at any point
                raise HTTPException(408) from None
            if body is None:
                return _refusal(AgentErrorCode.WEIGHTS_UNUSABLE, status=413)
            asked = replace(asked, weights=body)
            # Its hash is part of the id, and takes a while.
            job_id = await run_in_threadpool(lambda: asked.job_id)
            if not desk.submit(asked, job_id):
                raise HTTPException(409)
        return _state(desk, job_id)

    async def get_job(request: Request) -> Response:
        return _state(desk, request.path_params["job_id"])

    async def get_weights(request: Request) -> Response:
        weights = desk.weights(request.path_params["job_id"])
        if weights is None:
            raise HTTPException(404)
        return Response(weights, media_type="application/octet-stream")

    return Starlette(
        routes=[
            Route("/", greet),
            Route(_JOBS, post_job, methods=["POST"]),
            Route(f"{_JOBS}/{{job_id}}", get_job),
            Route(f"{_JOBS}/{{job_id}}/weights", get_weights),
        ]
    )


def _read_query(request: Request) -> RoundRequest | None:
    """The job that a request's address names, without weights; None if it names none."""
    query = request.query_params
    verb, number = _VERBS.get(query.get("verb", "")), query.get("round", "")
    manifest = query.get("manifest", "")
    # As many digits as any study has rounds: Python would read numbers of any length.
    if verb is None or not (number.isascii() and number.isdigit() and len(number) < 10):
        return None
    head, held = query.get("head", ""), query.get("held", "")
    if len(manifest) != 64 or any(text and not is_sha256(text) for text in (head, held)):
        return None
    return RoundRequest(manifest, int(number), verb, b"", server_head=head, held_sha256=held)


async def _read_body(request: Request, *, largest: int) -> bytes | None:
    """The body; None as soon as it turns out to be too large."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > largest:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > largest:
            return None
    return bytes(body)


def _state(desk: JobDesk, job_id: str) -> Response:
    """What is known of a job, or 404."""
    state = desk.state(job_id)
    if state is None:
        raise HTTPException(404)
    return _json(state)


def _refusal(code: AgentErrorCode, *, status: int) -> Response:
    """A failure that made no job: its code."""
    return JSONResponse({"code": int(code)}, status)


def _json(content: AgentGreeting | JobAnswer) -> Response:
    return Response(content.model_dump_json(), media_type="application/json")
