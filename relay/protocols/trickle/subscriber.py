"""Reads one channel: a GET a segment, the next one open before this one ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiohttp

from relay.errors import PeerError, PeerRefused
from relay.protocols.trickle import answers
from relay.protocols.trickle.client import (
    TIMEOUT,
    Ssl,
    complaint,
    endpoint,
    is_final,
    peer_error,
)
from relay.protocols.trickle.paths import LATEST, header_sequence
from relay.protocols.trickle.reading import SegmentReader

log = logging.getLogger(__name__)

_FETCH_AFTER: Final = 0.01
"""Seconds that the first bytes of a segment have for themselves, before the next is asked for."""

_REISSUE: Final = 20.0
"""Seconds a GET may wait for its first byte; the same one is then asked for anew."""

_RETRIES: Final = 5
_RETRY_DELAY: Final = 0.3
_MAX_GONE: Final = 40
_AHEAD_DELAY: Final = 0.25
_MAX_EMPTY: Final = 16
_EMPTY_DELAY: Final = 0.05


class TrickleSubscriber:
    """The segments of a channel, one after the other, for as long as it lives.

    Iterating ends when the channel is closed or unknown. A reader that fell behind goes on
    at the newest segment.

    Args:
        session: the caller's (``client.open_session``); it is not closed here.
        url: of the channel.
        start: the first sequence number; -1: the next to begin; -2: the current one.
        ssl: how the certificate is verified; see ``aiohttp``.
        headers: sent with each request.
        max_segment: bytes of one segment; None: no bound.
        stall_timeout: seconds without a byte after which a segment is left, if a newer one
            has begun.
        max_behind: seconds after the next segment's beginning at which the rest of a segment
            is left, whether bytes come or not; None: none is, but for ``stall_timeout``. A
            segment of media begins with a key frame, so nothing newer is lost.
        keep_newest: having fallen behind, go on with the newest segment that has begun, not
            with the next to begin: for messages of which the last one must not be lost.

    Attributes:
        left: segments of which the rest was left for ``max_behind``.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        start: int = LATEST,
        ssl: Ssl = True,
        headers: Mapping[str, str] | None = None,
        max_segment: int | None = None,
        stall_timeout: float = 2.0,
        max_behind: float | None = None,
        keep_newest: bool = False,
    ) -> None:
        self._endpoint = endpoint(
            session, url, ssl, {"Accept-Encoding": "identity"} | dict(headers or {})
        )
        self._max_segment = max_segment
        self._stall_timeout = stall_timeout
        self._max_behind = max_behind
        self._keep_newest = keep_newest
        self.left = 0
        self._leaving: asyncio.TimerHandle | None = None
        self._wanted = start
        self._current: SegmentReader | None = None
        self._fetching: asyncio.Task[aiohttp.ClientResponse | None] | None = None
        self._fetch_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[SegmentReader]:
        return self

    async def __anext__(self) -> SegmentReader:
        """The next segment, as soon as its first byte is there; the one before is left.

        Raises:
            PeerError: the server cannot be reached, or refuses, several times in a row.
        """
        self._stop_current()
        if self._closed:
            raise StopAsyncIteration
        fetching = self._fetch_ahead()
        await asyncio.wait({fetching})
        self._fetching = None
        if fetching.cancelled():
            raise StopAsyncIteration
        response = fetching.result()
        if response is None:
            self._closed = True
            raise StopAsyncIteration
        return self._opened(response)

    async def close(self) -> None:
        """Stop reading; an iteration under way ends."""
        self._closed = True
        if self._fetch_timer is not None:
            self._fetch_timer.cancel()
        self._stop_current()
        fetching = self._fetching
        if fetching is None:
            return
        fetching.cancel()
        await asyncio.wait({fetching})
        if not fetching.cancelled() and fetching.exception() is None:
            response = fetching.result()
            if response is not None:
                response.close()

    def _opened(self, response: aiohttp.ClientResponse) -> SegmentReader:
        sequence = self._sequence_of(response)
        self._wanted = LATEST if sequence is None else sequence + 1
        if sequence is not None:
            loop = asyncio.get_running_loop()
            self._fetch_timer = loop.call_later(_FETCH_AFTER, self._fetch_ahead)
        self._current = SegmentReader(
            response,
            sequence,
            stall_timeout=self._stall_timeout,
            limit=self._max_segment,
            is_overtaken=self._is_current_overtaken,
            bounded=self._max_behind is not None,
        )
        return self._current

    def _stop_current(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if self._current is not None:
            self._current.close()
            self._current = None

    def _next_began(self, fetching: asyncio.Task[aiohttp.ClientResponse | None]) -> None:
        """The segment after the current one is there, which has only so long from now on."""
        current = self._current
        if self._max_behind is None or fetching.cancelled() or current is None or current.over:
            return
        if fetching.exception() is None and fetching.result() is not None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(self._max_behind, self._leave, current)

    def _leave(self, current: SegmentReader) -> None:
        if current is self._current and not current.over:
            log.info("trickle segment %s is left: a newer one is there", current.sequence)
            self.left += 1
            current.close()

    def _is_current_overtaken(self) -> bool:
        return self._fetching is not None and self._fetching.done()

    def _sequence_of(self, response: aiohttp.ClientResponse) -> int | None:
        told = header_sequence(response.headers.get(answers.SEQ))
        if told is None and self._wanted >= 0:
            return self._wanted
        return told

    def _fetch_ahead(self) -> asyncio.Task[aiohttp.ClientResponse | None]:
        if self._fetch_timer is not None:
            self._fetch_timer.cancel()
            self._fetch_timer = None
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._next_began)
        return self._fetching

    async def _fetch(self) -> aiohttp.ClientResponse | None:
        """Open ``_wanted``, or what comes in its place; None when the channel is over."""
        failures = gone = empty = 0
        while True:
            try:
                response = await self._get()
            except PeerError as error:
                failures += 1
                if failures > _RETRIES or is_final(error):
                    raise
                await asyncio.sleep(_RETRY_DELAY)
                continue
            if response is None:
                continue
            failures = 0
            if response.status == 404 or answers.CLOSED in response.headers:
                response.release()
                return None
            if response.status == 470:
                gone += 1
                if gone > _MAX_GONE:
                    response.release()
                    raise PeerRefused("the server has none of the segments it speaks of")
                await self._jump(response)
                continue
            gone = 0
            if response.headers.get("Content-Length") != "0":
                return response
            # An empty segment is one that was dropped; one that follows another without end
            # must not keep this loop busy.
            sequence = self._sequence_of(response)
            response.release()
            self._wanted = LATEST if sequence is None else sequence + 1
            empty += 1
            if empty > _MAX_EMPTY:
                await asyncio.sleep(_EMPTY_DELAY)

    async def _get(self) -> aiohttp.ClientResponse | None:
        """One GET: its answer (200, 404 or 470), or None when it is time to ask anew.

        Raises:
            PeerError: no answer, or another one.
        """
        try:
            async with asyncio.timeout(_REISSUE):
                response = await self._endpoint.session.get(
                    self._endpoint.at(self._wanted),
                    headers=self._endpoint.headers,
                    ssl=self._endpoint.ssl,
                    allow_redirects=False,
                    timeout=TIMEOUT,
                )
        except aiohttp.ClientError as error:
            raise peer_error(error) from error
        except TimeoutError:
            return None
        except OSError as error:
            raise peer_error(error) from error
        if response.status in (200, 404, 470):
            return response
        words = await complaint(response)
        response.close()
        raise PeerRefused(f"segment {self._wanted} refused: {words}")

    async def _jump(self, response: aiohttp.ClientResponse) -> None:
        """Go on at the newest segment; a little later when it is older than the wanted one."""
        latest = header_sequence(response.headers.get(answers.LATEST))
        response.release()
        if latest is None:
            latest = LATEST
        if latest <= self._wanted:
            await asyncio.sleep(_AHEAD_DELAY)
        elif self._keep_newest and latest - 1 > self._wanted:
            latest -= 1  # what is told is the next to begin
        self._wanted = latest
