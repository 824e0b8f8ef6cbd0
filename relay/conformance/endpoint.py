"""What a WHIP or WHEP case works with: an endpoint, and sessions at it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl as tls
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp

from relay.conformance.case import Failed, NotOffered, Unusable, no_answer, one_of
from relay.conformance.offer import Offer, Section, fragment, sections

SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
TIMEOUT: Final = 10.0
MAX_BODY: Final = 1 << 20
Body = bytes | str | io.BytesIO | AsyncIterator[bytes]
BUSY: Final = 3
"""Tries more at a name in use, where its server says when it will be free."""
LONGEST_WAIT: Final = 2
CLIENT_ERRORS: Final = range(400, 500)
SOON: Final = 12.0
"""Seconds in which a session whose connection has failed is to be gone."""
_LOOK: Final = 0.1


class Side(StrEnum):
    WHIP = "whip"
    WHEP = "whep"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(slots=True)
class Session:
    """What a good POST made.

    Attributes:
        at: its address, empty when the server named none.
    """

    bench: Endpoint
    offer: Offer
    reply: Reply
    at: str
    etag: str

    @property
    def url(self) -> str:
        """Its address.

        Raises:
            NotOffered: the server named none.
        """
        if not self.at:
            raise NotOffered("sessions have no Location")
        return self.at

    @property
    def answer(self) -> str:
        return self.reply.body.decode("utf-8", "replace")

    def sections(self) -> tuple[list[str], list[Section]]:
        return sections(self.answer)

    def word(self, name: str) -> str:
        """An ICE or DTLS line of the answer, wherever it stands.

        Raises:
            Failed: it is not there.
        """
        session, media = self.sections()
        whole = Section("", 0, [*session, *(a for one in media for a in one.attributes)])
        found = whole.values(name)
        if not found:
            raise Failed(f"an answer without {name}", f"a={name}")
        return found[0]

    async def ask(self, method: str, body: bytes | None = None, **headers: str) -> Reply:
        return await self.bench.ask(method, self.url, body, **headers)

    async def patch(self, body: bytes, if_match: str | None = "", **headers: str) -> Reply:
        """PATCH a fragment; ``if_match`` empty: the session's ETag, None: no such header."""
        named = {"Content_Type": FRAGMENT, **headers}
        if if_match is not None:
            named["If_Match"] = if_match or self.etag
        return await self.ask("PATCH", body, **named)

    async def trickle(self, *lines: str, if_match: str | None = "") -> Reply:
        """PATCH candidates of the present ICE generation."""
        return await self.patch(fragment(self.offer.ufrag, self.offer.pwd, *lines), if_match)

    async def gone(self, within: float) -> float | None:
        """Wait until GET of the session is 404.

        Returns:
            Seconds until then, None when it is there all the time.

        Raises:
            NotOffered: its GET does not tell.
        """
        began = time.monotonic()
        while (lasted := time.monotonic() - began) < within:
            reply = await self.ask("GET")
            if reply.status == 404:
                return lasted
            if not 200 <= reply.status < 300:
                raise NotOffered(f"GET of a session is {reply.status}: its end cannot be seen")
            await asyncio.sleep(min(_LOOK, within))
        return None

    async def lives(self) -> None:
        """Raises Failed when the session is over."""
        reply = await self.ask("OPTIONS")
        one_of("OPTIONS of the session", reply.status, (200, 204))
        reply = await self.ask("GET")
        if reply.status == 404:
            raise Failed("the session is gone", "a session that lives")


@dataclass(slots=True)
class Stage:
    """What one case has found out for all after it.

    Attributes:
        empty: nothing is published for viewers.
    """

    empty: bool = False

    def check(self) -> None:
        """Raises NotOffered where a viewer need not wait for media again."""
        if self.empty:
            raise NotOffered("nothing is published there, as an earlier case saw")

    def found_empty(self, waited: float) -> NotOffered:
        """What a viewer says that has waited in vain for so many seconds."""
        self.empty = True
        return NotOffered(f"nothing is published there: no media in {waited:.0f} s")


@dataclass(slots=True)
class Endpoint:
    """One case's view of an endpoint; its sessions are ended behind it."""

    side: Side
    url: str
    token: str | None
    http: aiohttp.ClientSession
    ssl: tls.SSLContext
    stage: Stage = field(default_factory=Stage)
    _sessions: list[str] = field(default_factory=list)

    def offer(self, **changes: object) -> Offer:
        """A good offer of this side, but for the changes."""
        direction = "sendonly" if self.side is Side.WHIP else "recvonly"
        return Offer(direction).but(**changes)

    @property
    def answers(self) -> str:
        """The direction of a right answer."""
        return "recvonly" if self.side is Side.WHIP else "sendonly"

    async def ask(
        self,
        method: str,
        url: str,
        body: Body | None = None,
        **headers: str,
    ) -> Reply:
        """One request; ``_`` in header names is ``-``. ``Authorization=""``: no token."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            named.setdefault("Authorization", f"Bearer {self.token}")
        if not named.get("Authorization"):
            named.pop("Authorization", None)
        async with self.http.request(
            method,
            url,
            data=body,
            headers=named,
            ssl=self.ssl,
            allow_redirects=False,
            skip_auto_headers=["Content-Type", "Accept-Encoding"],
        ) as answer:
            got = await answer.content.read(MAX_BODY)
            reply = Reply(answer.status, answer.headers, got, str(answer.url))
        if method == "POST" and reply.status == 201 and "Location" in reply.headers:
            self._sessions.append(urljoin(reply.url, reply.headers["Location"]))
        return reply

    async def post(
        self,
        offer: Offer | Body | None = None,
        **headers: str,
    ) -> Reply:
        """POST an offer, by default a good one."""
        chosen = self.offer() if offer is None else offer
        body = chosen.text if isinstance(chosen, Offer) else chosen
        named = {"Content_Type": SDP, **headers}
        reply = await self.ask("POST", self.url, body, **named)
        for _ in range(BUSY):
            wait = reply.headers.get("Retry-After", "")
            if reply.status != 409 or not wait.isdecimal() or int(wait) > LONGEST_WAIT:
                break
            # A name in use is free in a moment, it says.
            await asyncio.sleep(int(wait) + 0.2)
            reply = await self.ask("POST", self.url, body, **named)
        return reply

    async def session(self, offer: Offer | None = None) -> Session:
        """A session by a good POST.

        Raises:
            Failed: the answer is no 201.
        """
        chosen = offer or self.offer()
        return self.made(chosen, await self.post(chosen))

    def made(self, offer: Offer, reply: Reply) -> Session:
        """The session that an offer was answered with.

        Raises:
            Failed: the answer is no 201.
        """
        if reply.status != 201:
            raise Failed(f"status {reply.status} to a good offer", "status 201")
        named = reply.headers.get("Location")
        at = urljoin(reply.url, named) if named else ""
        return Session(self, offer, reply, at, reply.headers.get("ETag", ""))

    async def refuses(self, offer: Offer | str | bytes, *allowed: int, **headers: str) -> None:
        """Raises Failed unless the offer is answered with one of these, by default any 4xx."""
        reply = await self.post(offer, **headers)
        one_of("status", reply.status, allowed or CLIENT_ERRORS)

    def forget(self, url: str) -> None:
        """Leave a session that is over out of what is cleaned up."""
        self._sessions.remove(url)

    async def close(self) -> None:
        for url in self._sessions:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await self.ask("DELETE", url)


@contextlib.asynccontextmanager
async def bench(
    side: Side, url: str, token: str | None, ssl: tls.SSLContext, stage: Stage | None = None
) -> AsyncIterator[Endpoint]:
    """
    Args:
        stage: of the cases that were run before.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as http:
        one = Endpoint(side, url, token, http, ssl, stage or Stage())
        try:
            yield one
        finally:
            await one.close()


async def check(side: Side, url: str, token: str | None, ssl: tls.SSLContext) -> None:
    """Look whether an endpoint is there.

    Raises:
        Unusable: nothing answers, or it says that there is no such endpoint, or that the
            token does not do.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unusable(f"{url} is no http:// or https:// address")
    try:
        async with bench(side, url, token, ssl) as one:
            reply = await one.post()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise no_answer(url, error) from error
    if reply.status in (401, 403):
        raise Unusable(f"{url} answers {reply.status}: give its token by --token")
    if reply.status in (404, 405, 501):
        raise Unusable(f"{url} answers {reply.status}: there is no such endpoint")
