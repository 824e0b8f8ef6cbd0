"""The HTTP answers of a trickle server, as the network's own server words them."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay.errors import NotFound, RelayError, SegmentGone, Unauthorized

SEQ: Final = "Lp-Trickle-Seq"
LATEST: Final = "Lp-Trickle-Latest"
CLOSED: Final = "Lp-Trickle-Closed"
RESET: Final = "Lp-Trickle-Reset"
EXPECT_CONTENT: Final = "Expect-Content"
TERMINATED: Final = "terminated"

_NOSNIFF: Final = {"X-Content-Type-Options": "nosniff"}


def empty(headers: dict[str, str] | None = None) -> web.Response:
    """200 without a body (and so without a content type)."""
    return web.Response(headers=headers)


def plain(text: str, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=text, status=status, headers=headers)


def refusal(error: RelayError) -> web.Response:
    """The answer to an error: its status, its message and a new line."""
    response = plain(f"{error}\n", status=error.status, headers=_NOSNIFF)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def not_allowed(*methods: str) -> web.Response:
    headers = {"Allow": ", ".join(methods), **_NOSNIFF}
    return plain("Method Not Allowed\n", status=405, headers=headers)


def gone(sequence: int, error: SegmentGone) -> web.Response:
    """470: the channel is there, the segment is not."""
    return web.Response(
        status=470,
        reason="status code 470",
        text=str(error),
        headers={LATEST: str(error.latest), SEQ: str(sequence)},
    )


def no_channel() -> NotFound:
    return NotFound("Stream not found", code="no_channel")
