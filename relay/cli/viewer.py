"""One viewer of a crowd: our own WHEP client, which comes back where its gateway does."""

from __future__ import annotations

import asyncio
import ssl as tls
import time
from collections.abc import Callable
from math import inf
from typing import Final

from relay.cli import address
from relay.cli.persistence import Persistence, is_final, passes, put_off
from relay.cli.watched import Seen
from relay.config import WebRtc
from relay.errors import PeerError, RelayError
from relay.media.unit import VIDEO_CLOCK, AccessUnit
from relay.protocols.webrtc.client import WhepClient
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.viewer import SQUEEZED

APART: Final = 10 * VIDEO_CLOCK
"""Ticks between two pictures that say nothing of the stream any more."""
CONSENT: Final = 30.0
"""A viewer of a crowd may wait long for its turn here: that ends none."""


class Viewer:
    """
    Args:
        url: a WHEP address.
        places: joins that may be under way at a time.
        on_lost: told that the connection is lost, or the first offer ``put_off``, and why.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        ssl: tls.SSLContext | bool = True,
        places: asyncio.Semaphore | None = None,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._token = token
        self._ssl = ssl
        self._places = places or asyncio.Semaphore()
        self._on_lost = on_lost
        self._asked = 0.0
        self._connected: float | None = None
        self._first: float | None = None
        self._pictures = 0
        self._octets = 0
        self._span, self._before = 0.0, -inf
        self._packets = self._lost = 0  # of former connections
        self._returns = 0
        self._latest = self._still = self._heard = 0.0
        self._why = ""
        self._put_off = False
        self._client: WhepClient | None = None

    async def join(self) -> None:
        """Be connected, or keep why not: ``stay`` makes another offer where that may help, once
        the others have had their turn."""
        try:
            await self._connect()
        except (RelayError, OSError) as error:
            self._why = str(error) or repr(error)
            self._put_off = put_off(error)
            if self._put_off:
                self._on_lost(f"could not join yet: {self._why}")
        else:
            self._connected = self._took()

    def _took(self) -> float:
        """Seconds since the offer, for one that is connected: on a busy machine a picture is seen
        before this is asked."""
        took = time.monotonic() - self._asked
        return took if self._first is None else min(took, self._first)

    async def _connect(self) -> None:
        host = "::" if "//[" in self._url else "0.0.0.0"
        async with self._places:
            if not self._asked:  # the wait for one another is not measured; for another try it is
                self._asked = time.monotonic()
            try:
                self._client = await WhepClient.connect(
                    self._url,
                    on_unit=self._unit,
                    token=self._token,
                    settings=WebRtc(host=host, port=0, consent_timeout=CONSENT),
                    ssl=self._ssl,
                )
            except PeerError as error:
                known = self._connected is not None
                raise address.unreached(self._url, error, known=known) from error

    async def stay(self) -> None:
        """Watch, and join again whenever the connection is lost, or the first offer was put off;
        return when it is over: ended by the gateway's own word, refused for good, or tried for
        long."""
        persistence = Persistence(time.monotonic())
        if self._put_off and not await self._return(persistence):
            return
        while self._client is not None:
            self._why = await self._client.wait_closed()
            async with self._places:
                word = await self._client.last_word()
            self._why = word or self._why
            self._on_lost(f"lost the connection: {self._why}")
            if is_final(word) or not await self._return(persistence):
                return

    async def _return(self, persistence: Persistence) -> bool:
        """Whether it is connected, again or at last."""
        await self._let_go()
        while (delay := persistence.wait(time.monotonic())) is not None:
            await asyncio.sleep(delay)
            try:
                await self._connect()
            except (RelayError, OSError) as error:
                self._why = str(error) or repr(error)
                if isinstance(error, PeerError) and not passes(error):
                    return False
            else:
                self._why = ""
                persistence.connected(time.monotonic())
                if self._connected is None:  # it had nothing to lose yet
                    self._connected = self._took()
                else:
                    self._returns += 1
                return True
        return False

    async def _let_go(self) -> None:
        if self._client is not None:
            await self._client.close()
            figures, self._client = self._client.statistics(), None
            self._packets += figures.packets
            self._lost += figures.lost
        self._before = -inf  # the next connection has times of its own

    def _unit(self, unit: AccessUnit) -> None:
        self._octets += len(unit.payload)
        now = self._heard = time.monotonic()
        if unit.is_video:
            if self._first is None:
                self._first = now - self._asked
            elif now - self._latest > self._still:
                self._still = now - self._latest
            self._latest = now
            apart = unit.pts - self._before
            self._pictures += not 0 < apart <= SQUEEZED
            if 0 < apart < APART:
                self._span += apart / VIDEO_CLOCK
            self._before = unit.pts

    def begin(self) -> None:
        """The time that is measured begins."""
        self._latest, self._still = time.monotonic(), 0.0

    @property
    def silent(self) -> bool:
        """As ``WhepClient.silent``; not while there is no connection."""
        return self._client is not None and self._client.silent

    @property
    def there(self) -> bool:
        """Whether it has a connection."""
        client = self._client
        return client is not None and client.peer.state is not PeerState.CLOSED

    @property
    def unheard(self) -> float:
        """As in ``Seen``."""
        return time.monotonic() - self._heard if self._heard else 0.0

    async def check(self) -> bool:
        """As ``WhepClient.check``."""
        async with self._places:
            return self._client is not None and await self._client.check()

    def look(self) -> Seen:
        packets, lost, why = self._packets, self._lost, self._why
        if (client := self._client) is not None:
            figures = client.statistics()
            packets, lost = packets + figures.packets, lost + figures.lost
            if client.peer.state is PeerState.CLOSED:
                why = why or client.peer.close_reason
        quiet = time.monotonic() - self._latest
        return Seen(
            *(self._connected, self._first, self._pictures, self._octets, packets, lost, why),
            still=max(self._still, quiet),
            quiet=quiet if self._latest else 0.0,
            unheard=self.unheard,
            returns=self._returns,
            span=self._span,
        )

    async def ask_why(self) -> str:
        """Why it was ended, in the gateway's words where it has some; "" where it was not."""
        client = self._client
        if client is None or client.peer.state is not PeerState.CLOSED:
            return self._why
        return await client.last_word() or self._why or client.peer.close_reason

    async def leave(self) -> None:
        if self._client is not None:
            await self._client.close()
