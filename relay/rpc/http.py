"""One HTTP call to another node: a time limit, a size limit, and our own errors."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from relay.errors import BadInput, PeerError, PeerTimeout, foreign_words
from relay.rpc.address import check_url

Ssl = ssl_module.SSLContext | bool | aiohttp.Fingerprint


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """``content_type`` is lower-case and without its parameters."""

    status: int
    content_type: str
    body: bytes

    @property
    def text(self) -> str:
        """The body as a person reads it: the first 500 characters."""
        return self.body[:2000].decode("utf-8", "replace").strip()[:500]

    @property
    def is_json(self) -> bool:
        return "json" in self.content_type


async def call(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    timeout: float,
    limit: int,
    ssl: Ssl = True,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> HttpAnswer:
    """Send a request and read the whole answer. Redirects are not followed.

    Args:
        timeout: seconds for all of it.
        limit: bytes of the largest answer that is read.

    Raises:
        PeerTimeout: not answered in time.
        PeerError: code ``peer_unreachable`` when there is no connection or it breaks,
            ``peer_answer`` when the answer is no HTTP or over the limit, ``bad_address``
            when ``url``, which peers tell, is none, ``address_refused`` when it leads where
            they may not send us, ``untrusted`` when its certificate is not the peer's.
    """
    try:
        check_url(url, what="address")
    except BadInput as error:
        raise PeerError(str(error), code=error.code) from error
    try:
        async with session.request(
            method,
            url,
            data=body,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            timeout=aiohttp.ClientTimeout(total=timeout),
            ssl=ssl,
            allow_redirects=False,
        ) as response:
            pieces = bytearray()
            async for piece in response.content.iter_any():
                pieces += piece
                if len(pieces) > limit:
                    raise PeerError(
                        f"{method} {url}: the answer is over {limit} bytes", code="peer_answer"
                    )
            return HttpAnswer(response.status, response.content_type.lower(), bytes(pieces))
    except TimeoutError as error:
        raise PeerTimeout(f"{method} {url}: no answer within {timeout:g} s") from error
    except (aiohttp.ClientConnectionError, OSError) as error:
        words = foreign_words(error)
        raise PeerError(f"{method} {url}: {words}", code="peer_unreachable") from error
    except aiohttp.ClientError as error:
        words = foreign_words(error)
        raise PeerError(f"{method} {url}: {words}", code="peer_answer") from error
