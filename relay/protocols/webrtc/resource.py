"""A WHIP or WHEP session as its client sees it by HTTP (RFC 9725 section 4.2)."""

from __future__ import annotations

import json
import logging
import ssl as tls
from typing import Final
from urllib.parse import urljoin

import aiohttp

from relay.errors import PeerError, PeerRefused, PeerTimeout, foreign_words
from relay.protocols.webrtc.sdp import MAX_SIZE

_log = logging.getLogger(__name__)

TIMEOUT: Final = 10.0
"""Seconds for each HTTP request, and for the connection after it."""

CONNECT: Final = 4.0
"""Seconds of these for TCP and TLS. While a network is away TCP asks at 0, 1, 3 and 7 seconds: who
waits for the last of these comes back late when it is there again."""

GOODBYE: Final = 3.0
"""Seconds for the DELETE: whoever ends a session need not wait for a server that is lost."""

ENDED: Final = "the session has ended: "
"""Before the reason that a gateway of ours gives."""

_SDP: Final = {"Content-Type": "application/sdp"}


class Resource:
    """The HTTP side of a session: POST makes it, DELETE ends it.

    Args:
        ssl: for https addresses; True is the system's authorities.

    Attributes:
        location: of the session, None without one.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        token: str | None,
        ssl: tls.SSLContext | bool = True,
    ) -> None:
        self._http = http
        self._ssl = ssl
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.location: str | None = None

    async def post(self, offer: str) -> str:
        """Hand the offer in; returns the answer.

        Raises:
            PeerTimeout: no answer in time.
            PeerRefused: another status than 2xx; with the server's own code and reason.
            PeerError: no connection (``tls_untrusted``: its certificate is none that we
                trust), or an answer that is too large.
        """
        try:
            async with self._http.post(
                self._url,
                data=offer.encode(),
                headers={**_SDP, **self._headers},
                ssl=self._ssl,
            ) as response:
                body = await response.content.read(MAX_SIZE + 1)
                if not 200 <= response.status < 300:
                    raise _refusal(response, body)
                if location := response.headers.get("Location"):
                    self.location = urljoin(str(response.url), location)
        except TimeoutError as error:
            raise PeerTimeout(f"{self._url} did not answer in time") from error
        except aiohttp.ClientConnectorCertificateError as error:
            why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            raise PeerError(
                f"{self._url}: its certificate is not trusted: {why}", code="tls_untrusted"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise PeerError(f"{self._url}: {foreign_words(error)}") from error
        if len(body) > MAX_SIZE:
            raise PeerError("the answer is too large", code="bad_answer")
        return body.decode("utf-8", "replace")

    async def last_word(self) -> str | None:
        """Why the server ended the session, in its own words; None when it does not say."""
        if self.location is None:
            return None
        timeout = aiohttp.ClientTimeout(total=GOODBYE)
        try:
            async with self._http.get(
                self.location, headers=self._headers, ssl=self._ssl, timeout=timeout
            ) as response:
                code, text = _problem(response, await response.content.read(MAX_SIZE))
        except (TimeoutError, aiohttp.ClientError) as error:
            _log.info("GET %s: %s", self.location, error)
            return None
        return text.removeprefix(ENDED) if code in ("stream_stopped", "session_ended") else None

    async def is_gone(self) -> bool:
        """Whether the server surely is no more, or no longer knows the session.

        False where that is not sure: it does not answer in time, or is no gateway of ours.
        """
        if self.location is None:
            return False
        timeout = aiohttp.ClientTimeout(total=GOODBYE)
        try:
            async with self._http.get(
                self.location, headers=self._headers, ssl=self._ssl, timeout=timeout
            ) as response:
                code, _ = _problem(response, await response.content.read(MAX_SIZE))
        except aiohttp.ClientConnectorError as error:
            return isinstance(error.os_error, ConnectionRefusedError)
        except (TimeoutError, aiohttp.ClientError):
            return False
        return code in ("stream_stopped", "session_ended", "session_not_found")

    async def delete(self) -> None:
        """End the session; whatever the server says, it is over for us."""
        if self.location is None:
            return
        location, self.location = self.location, None
        try:
            async with self._http.delete(
                location,
                headers=self._headers,
                ssl=self._ssl,
                timeout=aiohttp.ClientTimeout(total=GOODBYE),
            ) as response:
                await response.content.read(MAX_SIZE)
        except (TimeoutError, aiohttp.ClientError) as error:
            _log.info("DELETE %s: %s", location, error)


def _problem(response: aiohttp.ClientResponse, body: bytes) -> tuple[str, str]:
    """Code and words of a refusal, from problem+json where the server speaks it (RFC 9457)."""
    code, text = "peer_refused", response.reason or ""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        code = str(problem.get("code") or code)
        text = str(problem.get("detail") or problem.get("title") or text)
    return code, text


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> PeerRefused:
    code, text = _problem(response, body)
    after = response.headers.get("Retry-After", "")
    return PeerRefused(
        f"{response.status}: {text}",
        code=code,
        retry_after=int(after) if after.isdecimal() else None,
    )
