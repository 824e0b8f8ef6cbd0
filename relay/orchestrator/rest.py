"""What an orchestrator answers over HTTP/1.1, beside trickle: the job, payments, and the
small routes of ours.

The order of the checks, their statuses and their words are a stock orchestrator's, since
gateways read them. Where it would drop the connection (no model_id) or answer 200 with
nothing (a wrong method), this one answers 400 or 405.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from relay.errors import (
    BadInput,
    Forbidden,
    NotFound,
    ParseError,
    PeerRefused,
    RelayError,
    Unavailable,
)
from relay.orchestrator.jobs import Jobs
from relay.orchestrator.offers import Stall, offer
from relay.orchestrator.runners import Runners
from relay.orchestrator.token import TokenMint
from relay.rpc import request_body
from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import LIVE_PIPELINE, Capabilities
from relay.rpc.json_body import dump
from relay.rpc.live_job import PATH, LiveJobRequest
from relay.rpc.orchestrator_request import OrchestratorRequest
from relay.rpc.payment import Payment
from relay.rpc.payment_result import PaymentResult
from relay.rpc.runner import NO_CAPACITY
from relay.rpc.schema import ORCHESTRATOR_PATH
from relay.rpc.seg_data import SegData, from_base64

log = logging.getLogger(__name__)

MAX_BODY: Final = 1 << 20
READ_WITHIN: Final = 3.0
MAX_DURATION_MS: Final = 300_000
REFUSED: Final = "live-video-to-video container returned 400"
"""How a stock orchestrator hands on what a runner has against a job."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PaymentRequired(BadInput):
    """A payment header that cannot be read; only of this module."""

    status = 402


class Rest:
    """
    Args:
        stall: what is for sale now.
        service_url: told in a payment's answer.
    """

    def __init__(
        self,
        *,
        jobs: Jobs,
        runners: Runners,
        mint: TokenMint,
        stall: Callable[[], Stall],
        service_url: Callable[[], str],
    ) -> None:
        self._jobs = jobs
        self._runners = runners
        self._mint = mint
        self._stall = stall
        self._service_url = service_url

    def attach(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.post(PATH, _worded(self._start)),
                web.post("/payment", _worded(self._payment)),
                web.get(ORCHESTRATOR_PATH, _worded(self._schema)),
                web.get("/relay/status", self._status),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
            ]
        )

    async def _start(self, request: web.Request) -> web.StreamResponse:
        if self._stall().draining:
            raise Unavailable("draining", code="draining")
        job = LiveJobRequest.parse(
            await request_body.read(request, limit=MAX_BODY, within=READ_WITHIN)
        )
        problem = self._runners.problem(job.model_id)
        if not problem and not self._runners.candidates(job.model_id):
            raise Unavailable(NO_CAPACITY, code="no_capacity")
        _check_payment(request)
        self._check_segment(request)
        if problem:
            raise PeerRefused(f"{REFUSED}: {problem}", code="runner_bad_request")
        answer = await self._jobs.start(job)
        return web.Response(body=answer.serialise(), content_type="application/json")

    async def _payment(self, request: web.Request) -> web.StreamResponse:
        """Off-chain there is nothing to pay; the session goes on with the token it has."""
        _check_payment(request)
        token = self._check_segment(request)
        info = offer(
            OrchestratorRequest(capabilities=Capabilities()),
            self._stall(),
            service_url=self._service_url(),
            token=token,
        )
        body = PaymentResult(info).serialise()
        return web.Response(body=body, content_type="application/octet-stream")

    def _check_segment(self, request: web.Request) -> AuthToken:
        try:
            segment = SegData.from_header(request.headers.get("Livepeer-Segment", ""))
        except ParseError as error:
            raise Forbidden("ErrorSegEncoding", code="segment") from error
        if not 0 <= segment.duration_ms <= MAX_DURATION_MS:
            raise Forbidden("ErrorSegEncoding", code="segment")
        return self._mint.check(segment.auth_token, time.time())

    async def _schema(self, request: web.Request) -> web.StreamResponse:
        model = request.query.get("model_id", "")
        if request.query.get("pipeline", LIVE_PIPELINE) != LIVE_PIPELINE or not model:
            raise BadInput(f"ask for pipeline={LIVE_PIPELINE} and a model_id", code="bad_query")
        if problem := self._runners.problem(model):
            raise RelayError(problem, code="model_broken")
        schema = self._runners.schema(model)
        if schema is None:
            raise NotFound("no schema of this model", code="no_schema")
        return web.Response(body=schema.serialise(), content_type="application/json")

    async def _status(self, request: web.Request) -> web.StreamResponse:
        """Open to anyone, and so without addresses, stream ids or channel names."""
        now = time.monotonic()
        jobs = sorted(self._jobs.running, key=lambda job: job.number)
        return _json(
            {
                "draining": self._stall().draining,
                "jobs": [job.describe(now) for job in jobs],
                "ended": dict(self._jobs.ended),
                "runners": self._runners.describe(),
            }
        )

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return _json({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        """May new jobs be sent here? A full node is ready, too: it answers for itself."""
        if self._stall().draining:
            return _json({"status": "draining"}, status=503)
        if not self._runners.usable:
            return _json(
                {"status": "no runner works", "reason": self._runners.why_unusable()}, status=503
            )
        return _json({"status": "ready"})


def _check_payment(request: web.Request) -> None:
    try:
        data = from_base64(request.headers.get("Livepeer-Payment", ""))
    except ParseError as error:
        raise PaymentRequired(str(error)) from error
    try:
        Payment.parse(data)
    except ParseError as error:
        raise PaymentRequired(f"protobuf unmarshal error: {error}") from error


def _worded(handler: _Handler) -> _Handler:
    """Errors as stock nodes answer them: plain text, and a new line at its end.

    Callers that are refused come again, several times a second: the log has a refusal once,
    until there is another, or none.
    """
    last = ""

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal last
        try:
            response = await handler(request)
            last = ""
            return response
        except RelayError as error:
            # A runner's refusal of the job is this node's 500, not a bad gateway.
            status = 500 if isinstance(error, PeerRefused) else error.status
            words = f"{status} {error}"
            level = logging.DEBUG if words == last else logging.INFO
            last = words
            log.log(level, "%s %s: %s", request.method, request.path, words)
            headers = {"X-Content-Type-Options": "nosniff"}
            return web.Response(status=status, text=f"{error}\n", headers=headers)

    return handle


def _json(value: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(body=dump(value), status=status, content_type="application/json")
