"""One segment on its way in: its bytes as they come, until it ends or is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import aiohttp

from relay.errors import PeerError, TooLarge
from relay.protocols.trickle.straight import straight, taken, throw_away

log = logging.getLogger(__name__)


class SegmentReader:
    """The bytes of one segment, as they arrive.

    Args:
        stall_timeout: seconds without a byte until it is left, where ``is_overtaken``.
        limit: its bytes; None: no bound.
        bounded: somebody else closes it, in time, where it stalls.

    Attributes:
        sequence: its number; None when the server does not tell.
        mime: its content type, as sent.
        truncated: the end came otherwise than by the writer's ending it.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        sequence: int | None,
        *,
        stall_timeout: float,
        limit: int | None,
        is_overtaken: Callable[[], bool],
        bounded: bool = False,
    ) -> None:
        self.sequence = sequence
        self.mime = response.headers.get("Content-Type", "")
        self.truncated = False
        self._response = response
        self._stall_timeout = stall_timeout
        self._limit = limit
        self._is_overtaken = is_overtaken
        self._bounded = bounded
        self._size = 0
        self._over = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes, as soon as there are any.

        Raises:
            PeerError: the segment is larger than the subscriber's ``max_segment``; the code is
                ``segment_too_large``, and the segments after it can still be read.
        """
        data = b"" if self._over else await self._more()
        if not data:
            raise StopAsyncIteration
        self._size += len(data)
        if self._limit is not None and self._size > self._limit:
            self.close()
            raise PeerError(
                f"segment {self.sequence} is larger than {self._limit} bytes",
                code="segment_too_large",
            )
        return data

    async def pour(self, taker: Callable[[bytes], None]) -> None:
        """Give the bytes to ``taker``, to the segment's end, in the call that reads them.

        Raises:
            PeerError: see ``__anext__``.
            Exception: whatever ``taker`` raises; the rest is left.
        """
        async for data in self:
            taker(data)
            content = self._response.content
            if self._bounded and self._limit is None and taken(content) and not content.is_eof():
                await self._pour_rest(content, taker)

    async def _pour_rest(
        self, content: aiohttp.StreamReader, taker: Callable[[bytes], None]
    ) -> None:
        """The same without a switch of tasks for each piece."""
        failed: list[Exception] = []
        try:
            if (error := content.exception()) is not None:
                raise error
            with straight(content, taker, failed):
                await content.wait_eof()
        except (aiohttp.ClientError, OSError) as cut:
            if failed:
                raise
            log.debug("trickle segment cut off: %s", cut)
            self.close()
        finally:
            if failed:
                self.close()

    async def read(self, limit: int) -> bytes:
        """The whole segment.

        Raises:
            TooLarge: it has more than ``limit`` bytes; the rest is left.
            PeerError: see ``__anext__``.
        """
        parts: list[bytes] = []
        size = 0
        async for data in self:
            size += len(data)
            if size > limit:
                self.close()
                raise TooLarge(f"segment {self.sequence} is larger than {limit} bytes")
            parts.append(data)
        return b"".join(parts)

    @property
    def over(self) -> bool:
        """Nothing more of it comes."""
        return self._over

    def close(self) -> None:
        """Leave the rest."""
        if not self._over:
            self._over = self.truncated = True
            throw_away(self._response.content)
            self._response.close()

    async def _more(self) -> bytes:
        """The next bytes; empty at the end."""
        content = self._response.content
        try:
            while not content.at_eof():
                if data := content.read_nowait(-1) or await self._wait(content):
                    return data
        except (aiohttp.ClientError, OSError) as error:
            log.debug("trickle segment cut off: %s", error)
            self.close()
            return b""
        if not self._over:
            self._over = True
            self._response.release()
        return b""

    async def _wait(self, content: aiohttp.StreamReader) -> bytes:
        """Wait for bytes; a segment that stalls is left once a newer one is there."""
        try:
            async with asyncio.timeout(self._stall_timeout):
                return await content.readany()
        except TimeoutError:
            if self._is_overtaken():
                raise
            return b""
