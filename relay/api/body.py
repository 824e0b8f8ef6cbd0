"""Reading bodies: of the right kind, in one encoding, within a size and a time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import orjson
from aiohttp import web

from relay.errors import BadInput, TooLarge, UnsupportedMedia

SDP_LIMIT = 128 * 1024
PARAMS_LIMIT = 32 * 1024
MAX_DEPTH = 32  # objects and lists inside one another; all that handle them go down step by step
READ_TIMEOUT = 10.0  # seconds for a whole body; the slowest real client needs far less

SDP = "application/sdp"
SDPFRAG = "application/trickle-ice-sdpfrag"
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


async def read(request: web.Request, *, limit: int, types: Collection[str] | None) -> bytes:
    """The body, once it is known to be wanted.

    Args:
        limit: bytes; one more is refused.
        types: content types that are accepted, or None for any.

    Raises:
        UnsupportedMedia: another content type or a content encoding.
        TooLarge: over the limit, said before it was read where the length is told.
        BadInput: the chunks are broken.
        HTTPRequestTimeout: it did not arrive in time.
    """
    if types is not None and request.content_type not in types:
        raise UnsupportedMedia(
            f"Content-Type must be {' or '.join(types)}, not {request.content_type}.",
            code="content_type",
        )
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia("A body must come without a content encoding.", code="encoding")
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        if request.content.is_eof():  # it came with its head: there is nothing to wait for
            body = request.content.read_nowait()
            if len(body) > limit:
                raise _too_large(limit)
            return body
        async with asyncio.timeout(READ_TIMEOUT):
            async for part in request.content.iter_any():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    except web.RequestPayloadError as error:
        raise BadInput("The body breaks off or is badly framed.", code="bad_body") from error
    return b"".join(parts)


async def read_offer(request: web.Request) -> str:
    """The SDP offer of a WHIP or WHEP POST.

    Raises:
        BadInput: it is empty or not UTF-8 (and what ``read`` raises).
    """
    body = await read(request, limit=SDP_LIMIT, types=(SDP,))
    if not body.strip():
        raise BadInput("The body is empty; an SDP offer is needed.", code="sdp_empty")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadInput("The SDP is not UTF-8 text.", code="sdp_parse") from error


def parse_object(data: bytes | str, *, code: str) -> dict[str, Any]:
    """A JSON object, nothing else.

    Raises:
        BadInput: with ``code``.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"This is not JSON: {error}.", code=code) from error
    if not isinstance(value, dict):
        raise BadInput("A JSON object is needed.", code=code)
    if _is_too_deep(value):
        raise BadInput(f"More than {MAX_DEPTH} levels of JSON.", code=code)
    return value


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            inner += item.values() if isinstance(item, dict) else item
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.")
