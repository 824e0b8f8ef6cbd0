"""What the publisher and the subscriber of a channel share: sessions, addresses, errors."""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from relay.errors import PeerError, PeerTimeout, foreign_words

log = logging.getLogger(__name__)

TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=5.0, sock_connect=5.0, sock_read=None)
"""A request of either side may wait for as long as its channel lives, once it is connected."""

Ssl = tls.SSLContext | bool | aiohttp.Fingerprint
"""How a certificate is verified; True: against the system's authorities."""

_DELETE_WITHIN: Final = 2.0
_READ_BUFFER: Final = 256 * 1024


def open_session(
    kind: type[aiohttp.TCPConnector] = aiohttp.TCPConnector,
) -> aiohttp.ClientSession:
    """A session whose pool never makes a waiting request hold up another one.

    Each channel holds two connections; they are kept alive and used again.

    Args:
        kind: of its connector, which may refuse to connect with a PeerError.
    """
    connector = kind(limit=0, limit_per_host=0, keepalive_timeout=60.0)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=TIMEOUT,
        auto_decompress=False,
        read_bufsize=_READ_BUFFER,
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One channel of a server.

    Attributes:
        session: the caller's; its pool must be large enough (``open_session``).
        url: of the channel, without a slash at the end.
        ssl: how its certificate is verified; True: against the system's authorities.
        headers: sent with each request; a token may be among them.
    """

    session: aiohttp.ClientSession
    url: str
    ssl: Ssl = True
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def at(self, sequence: int) -> str:
        return f"{self.url}/{sequence}"

    async def delete(self, url: str) -> None:
        """DELETE within a bound. A failure changes nothing for the caller: the other node
        finds out by itself, if it is still there."""
        try:
            async with (
                asyncio.timeout(_DELETE_WITHIN),
                self.session.delete(
                    url, headers=self.headers, ssl=self.ssl, allow_redirects=False
                ) as response,
            ):
                log.debug("trickle DELETE: %s", response.status)
        except (aiohttp.ClientError, OSError, PeerError) as error:
            log.debug("trickle DELETE failed: %s", error)


def endpoint(
    session: aiohttp.ClientSession,
    url: str,
    ssl: Ssl,
    headers: Mapping[str, str] | None,
) -> Endpoint:
    return Endpoint(session, url.rstrip("/"), ssl, dict(headers or {}))


def peer_error(error: Exception) -> PeerError:
    """The error of ours for one of the HTTP client's."""
    if isinstance(error, TimeoutError):
        return PeerTimeout(f"no trickle connection in time: {error}")
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        words = foreign_words(error)
        return PeerError(f"trickle connection is not trusted: {words}", code="untrusted")
    return PeerError(f"trickle connection failed: {foreign_words(error)}")


def is_final(error: PeerError) -> bool:
    """Whether trying again at once makes no sense: not trusted, or not there for seconds."""
    return error.code in ("untrusted", "address_refused") or isinstance(error, PeerTimeout)


async def complaint(response: aiohttp.ClientResponse) -> str:
    """What an error answer says, one short line."""
    try:
        async with asyncio.timeout(1.0):
            body = await response.content.read(200)
    except (aiohttp.ClientError, OSError):
        body = b""
    return f"{response.status} {body.decode('utf-8', 'replace').strip()}".strip()
