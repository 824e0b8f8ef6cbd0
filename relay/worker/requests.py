"""The runner API's two ends: what a request says, and the JSON that answers it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from relay.errors import RelayError, UnsupportedMedia
from relay.rpc import request_body
from relay.rpc.json_body import dump
from relay.rpc.runner import START_PATH, RunnerStart
from relay.worker.messages import NOBODY, Caller

log = logging.getLogger(__name__)

MAX_BODY: Final = 256 << 10
READ_WITHIN: Final = 10.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def caller_of(request: web.Request) -> Caller:
    transport = request.transport
    if transport is None:
        return NOBODY
    peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return Caller(peer[0] if peer else None, here[0] if here else None)


async def start_of(request: web.Request) -> RunnerStart:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("a body must come without a content encoding", code="encoding")
    body = await request_body.read(request, limit=MAX_BODY, within=READ_WITHIN)
    return RunnerStart.parse(body)


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal as the JSON that a stock orchestrator reads.

    On the start path it must be 400, 401, 422 or 500: any other status, or a body that is
    no JSON, makes a stock orchestrator drop its caller's connection.
    """
    try:
        return await handler(request)
    except RelayError as error:
        status, message = error.status, str(error)
    except web.HTTPException as error:
        status, message = error.status, error.reason
    except ConnectionError:
        raise  # the caller went away: there is nobody to answer
    except Exception as error:
        log.exception("a request to %s failed", request.path)
        text = dump({"detail": {"msg": "internal error"}}).decode()
        raise web.HTTPInternalServerError(text=text, content_type="application/json") from error
    if request.path == START_PATH and status not in (400, 401, 422, 500):
        status = 400 if status < 500 else 500
    detail: object = {"msg": message}
    if status == 422:
        detail = [{"loc": ["body"], "msg": message, "type": "value_error"}]
    return answer(dump({"detail": detail}), status)


def not_loaded(model_id: str, reason: str) -> str:
    return f"model {model_id!r} could not be loaded: {reason}"


def answer(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
