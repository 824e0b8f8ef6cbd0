"""Errors as HTTP answers: problem+json (RFC 9457) with a stable ``code``."""

from __future__ import annotations

import http
import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from relay.errors import RelayError

CONTENT_TYPE = "application/problem+json"
MAX_DETAIL = 1000  # characters

_log = logging.getLogger(__name__)

# Codes of the refusals that come from the HTTP machinery and not from us.
_HTTP_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    414: "uri_too_long",
    417: "expectation_failed",
    431: "headers_too_large",
}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> web.Response:
    """An error answer.

    ``error`` repeats the detail: players in the field read that member of a 400. A detail
    may quote what was asked, and so it is cut.
    """
    if len(detail) > MAX_DETAIL:
        detail = detail[:MAX_DETAIL] + "…"
    document = {
        "type": f"urn:relay:problem:{code}",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "code": code,
        "error": detail,
        **extra,
    }
    answer = web.Response(
        status=status,
        body=json.dumps(document, ensure_ascii=False).encode(),
        content_type=CONTENT_TYPE,
        headers=headers,
    )
    if status in (408, 413):  # the rest of the body is not worth reading
        answer.force_close()
    return answer


def from_relay(error: RelayError, *, credential: bool = False) -> web.Response:
    """The answer to an error raised on purpose.

    Args:
        credential: whether the request carried one (RFC 6750 section 3: only then is
            the challenge's ``error`` attribute sent).
    """
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        challenge = 'Bearer realm="relay"'
        headers["WWW-Authenticate"] = challenge + (', error="invalid_token"' if credential else "")
    if error.status >= 500 and error.status not in (501, 502, 503, 504):
        return unexpected(error)
    return problem(error.status, error.code, str(error), headers=headers)


def from_http(error: web.HTTPException) -> web.Response:
    """The answer to a refusal of the HTTP machinery (no such route, 405, ...)."""
    headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    code = _HTTP_CODES.get(error.status, "http_error")
    detail = {
        404: "There is nothing at this address.",
        405: f"This address does not take that method, but {headers.get('Allow', 'others')}.",
        408: "The request did not arrive in time.",
    }.get(error.status, error.reason)
    return problem(error.status, code, detail, headers=headers)


def unexpected(error: BaseException) -> web.Response:
    """The answer to a defect of ours: an id in place of anything internal."""
    incident = secrets.token_hex(6)
    _log.error("incident %s", incident, exc_info=error)
    return problem(
        500,
        "internal",
        f"The gateway failed; its log tells more under {incident}.",
        incident=incident,
    )


def _title(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"
