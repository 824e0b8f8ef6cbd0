"""What every request passes: errors become answers, answers get their common headers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import cache

from aiohttp import web
from prometheus_client import Counter, Histogram

from relay import metrics
from relay.api import problem
from relay.errors import RelayError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_EXPOSED = (
    "Location, ETag, Link, Accept-Post, Accept-Patch, Allow, Access-Control-Allow-Methods, "
    "Retry-After, WWW-Authenticate, Livepeer-Playback-URL"
)
# ETag is among the request headers since one SDK in the field sends it there.
_REQUEST_HEADERS = (
    "Authorization, Content-Type, If-Match, ETag, X-Request-ID, Traceparent, Tracestate"
)
_METHODS = "OPTIONS, GET, HEAD, POST, PATCH, DELETE"
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Nothing but an answer leaves: typed errors by their code, defects by an id."""
    started = time.monotonic()
    metrics.HTTP_OPEN.inc()
    status = 499  # what is counted when the client goes away before its answer
    try:
        answer = await _answer(request, handler)
        status = answer.status
    except web.HTTPInternalServerError:
        status = 500
        raise
    finally:
        metrics.HTTP_OPEN.dec()
        route = _pattern(request)
        requests, seconds = _counted(route, _method(request), status)
        requests.inc()
        seconds.observe(time.monotonic() - started)
    return answer


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RelayError as error:
        return problem.from_relay(error, credential="Authorization" in request.headers)
    except web.HTTPException as error:
        return problem.from_http(error)
    except ConnectionError:
        raise  # the client went away: there is nobody to answer
    except Exception as error:
        answer = problem.unexpected(error)
        raise web.HTTPInternalServerError(
            text=answer.text, content_type=problem.CONTENT_TYPE
        ) from error


async def common_headers(request: web.Request, answer: web.StreamResponse) -> None:
    """CORS and safety headers, on each answer whoever made it (errors included)."""
    headers = answer.headers
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Server"] = "relay"
    headers.setdefault("Cache-Control", "no-store")
    if "Content-Security-Policy" in headers:
        return  # a page of ours: for us alone
    headers["Access-Control-Allow-Origin"] = "*"
    headers["Access-Control-Expose-Headers"] = _EXPOSED
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = _METHODS
        headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
        headers["Access-Control-Max-Age"] = "7200"


@cache
def _counted(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """Looked up once for each of the few there are, as is all that prometheus keeps of them."""
    return metrics.HTTP_REQUESTS.labels(route, method, status), metrics.HTTP_SECONDS.labels(route)


def _pattern(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"


def _method(request: web.Request) -> str:
    return request.method if request.method in _KNOWN_METHODS else "other"
